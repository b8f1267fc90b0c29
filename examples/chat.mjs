// Sends one message to an agent and prints the answer as it comes. Exit status 0: it came whole.
//
//   node chat.mjs [--url URL] [--agent ID] [--session ID] [MESSAGE]        without MESSAGE: standard input

import { randomUUID } from 'node:crypto';
import { on } from 'node:events';
import { text } from 'node:stream/consumers';
import { parseArgs } from 'node:util';
import WebSocket from 'ws';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    url: { type: 'string', default: 'ws://127.0.0.1:8080' },
    agent: { type: 'string', default: 'helper' },
    session: { type: 'string' },
  },
});
const client = randomUUID(); // Says that the two sockets are one client's.

/** Opens a socket; `receive` has its frames one by one. */
async function open(path) {
  const socket = new WebSocket(`${options.url}${path}?client_id=${client}`);
  const messages = on(socket, 'message', { close: ['close'] });
  let end = 'closed';
  socket.on('close', (code, reason) => (end = `closed: ${code} ${reason}`));
  let patience = 10_000;
  const receive = async () => {
    const silence = setTimeout(() => socket.terminate(), patience);
    const { value, done } = await messages.next().finally(() => clearTimeout(silence));
    // Below 4400 a client that stays would connect again and resume: docs/protocol.md, "Resuming".
    if (done) throw new Error(`connection ${end}`);
    return JSON.parse(value[0]);
  };
  const established = await receive();
  // From now on something comes with each heartbeat; where nothing does, the connection is dead.
  patience += established.data.heartbeat_secs * 1000;
  return { socket, receive };
}

/** Sends a command and waits for its reply. */
async function ask({ socket, receive }, type, fields) {
  // Sent again under the same id, should the reply be lost, a command is not done again.
  const message_id = randomUUID();
  socket.send(JSON.stringify({ type, message_id, ...fields }));
  let reply;
  do reply = await receive();
  while (reply.reply_to !== message_id); // Something else: a heartbeat, an event of before.
  if (reply.error) throw new Error(`${reply.error.code}: ${reply.error.message}`);
  return reply.data;
}

async function chat(message) {
  const events = await open('/ws/frontend-api');
  const commands = await open('/ws/backend-api');
  let session_id = options.session;
  // Watch first, then speak: so nothing is missed.
  if (session_id) {
    await ask(events, 'subscribe', { data: { topics: [`session:${session_id}`] } });
    while ((await events.receive()).type !== 'session_snapshot');
  } else {
    // What comes of `create` is shown to this client's other socket by itself.
    const create = { agent_id: options.agent, data: { action: 'create' } };
    ({ session_id } = await ask(commands, 'session_management', create));
    console.error(`session ${session_id}`);
  }
  const { run_id } = await ask(commands, 'chat_message', { session_id, data: { content: message } });
  commands.socket.close();
  for (;;) {
    const event = await events.receive();
    if (event.run_id !== run_id) continue; // Of the socket itself, or of another run in this session.
    if (event.type === 'message.delta') process.stdout.write(event.data.text);
    else if (event.type === 'agent_response') process.stdout.write('\n');
    else if (event.type === 'error') console.error(`${event.error.code}: ${event.error.message}`);
    else if (event.type === 'run_finished') {
      events.socket.close();
      return event.data.outcome === 'completed';
    }
  }
}

try {
  process.exitCode = (await chat(positionals[0] ?? (await text(process.stdin)))) ? 0 : 1;
} catch (error) {
  console.error(error.message || error.code);
  process.exit(1);
}
