/** Talks to the server beside the page: makes sessions, and reads what their logs say. */

import { once } from 'node:events';
import { WebSocket } from 'ws';
import { until } from './until.js';

export class Commander {
  #socket;
  #sent = 0;
  #heartbeats = 0;
  /** @type {Map<string, (reply: any) => void>} */
  #waiting = new Map();

  /** @param {import('./server.js').Server} server */
  async connect(server) {
    const url = `ws://127.0.0.1:${server.port}/ws/backend-api?client_id=commander`;
    this.#socket = new WebSocket(url);
    this.#socket.on('message', (text) => {
      const frame = JSON.parse(String(text));
      if (frame.type === 'heartbeat') this.#heartbeats++;
      if (frame.type === 'reply') this.#waiting.get(frame.reply_to)?.(frame);
    });
    await once(this.#socket, 'open');
    return this;
  }

  close() {
    this.#socket.close();
  }

  /**
   * Sends a command and returns its reply's data; a refusal is an error.
   *
   * @param {string} type
   * @param {object} [fields] of the envelope, `data` among them
   */
  async command(type, fields = {}) {
    const message_id = `commander-${++this.#sent}`;
    const reply = new Promise((resolve) => this.#waiting.set(message_id, resolve));
    this.#socket.send(JSON.stringify({ type, message_id, ...fields }));
    const { ok, data, error } = await reply;
    if (!ok) throw new Error(`${type}: ${error.code}: ${error.message}`);
    return data;
  }

  /** @returns {Promise<string>} the session's id */
  async create(agentId, title) {
    const data = { action: 'create', title };
    const { session_id } = await this.command('session_management', { agent_id: agentId, data });
    return session_id;
  }

  /** Sends a message and waits until it is answered. */
  async say(sessionId, content) {
    const chat = { session_id: sessionId, data: { content } };
    const { run_id } = await this.command('chat_message', chat);
    await until('the end of the run', async () => {
      const events = await this.history(sessionId);
      return events.some((event) => event.type === 'run_finished' && event.run_id === run_id);
    });
  }

  /** Sends many messages, and waits until all are answered. */
  async fill(sessionId, contents) {
    for (const content of contents) {
      const chat = { session_id: sessionId, data: { content } };
      // The queue takes 32.
      await until('room in the queue', () =>
        this.command('chat_message', chat).catch((error) => {
          if (!/busy/.test(error.message)) throw error;
        }),
      );
    }
    await until('all answers', async () => {
      const { sessions } = await this.command('session_management', { data: { action: 'list' } });
      return sessions.find((session) => session.session_id === sessionId).status === 'idle';
    });
  }

  /** Waits until the server has sent some more signs of life. */
  async heartbeats(count) {
    const end = this.#heartbeats + count;
    await until('heartbeats', () => this.#heartbeats >= end);
  }

  /** Every event of a session. */
  async history(sessionId) {
    const events = [];
    for (let more = true; more;) {
      const data = { action: 'history', after: events.at(-1)?.seq ?? 0, limit: 1000 };
      const page = await this.command('session_management', { session_id: sessionId, data });
      events.push(...page.events);
      more = page.more;
    }
    return events;
  }

  /** What the agent has answered, oldest first. */
  async answers(sessionId) {
    const events = await this.history(sessionId);
    return events.filter(({ type }) => type === 'agent_response').map(({ data }) => data.content);
  }

  /** What the user has sent, oldest first. */
  async questions(sessionId) {
    const events = await this.history(sessionId);
    return events.filter(({ type }) => type === 'user_message').map(({ data }) => data.content);
  }
}
