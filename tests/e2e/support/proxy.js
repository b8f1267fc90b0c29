/** Stands between the page and the server, and cuts or stalls the connections of one socket or of both. */

import { once } from 'node:events';
import { connect, createServer } from 'node:net';

/** @typedef {'frontend-api' | 'backend-api'} Door */

/** @typedef {{ downstream: import('node:net').Socket, upstream: import('node:net').Socket, head: string }} Pipe */

export class Proxy {
  /** Whether sockets may be opened; the page itself always comes through. */
  open = true;
  #server;
  /** @type {Set<Pipe>} */
  #pipes = new Set();

  /** @param {number} upstreamPort */
  async start(upstreamPort) {
    this.#server = createServer((downstream) => this.#accept(downstream, upstreamPort));
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return this;
  }

  get url() {
    return `http://127.0.0.1:${this.#server.address().port}/`;
  }

  /**
   * Ends connections without a word, as a network does that goes away.
   *
   * @param {Door} [door] both where it is left out
   */
  cut(door) {
    for (const { downstream, upstream } of this.#pipesOf(door)) {
      downstream.destroy();
      upstream.destroy();
    }
  }

  /**
   * Keeps connections, but lets nothing through any more: neither side can tell at once.
   *
   * @param {Door} [door]
   */
  stall(door) {
    for (const { downstream, upstream } of this.#pipesOf(door)) {
      downstream.unpipe(upstream);
      upstream.unpipe(downstream);
    }
  }

  destroy() {
    for (const { downstream, upstream } of this.#pipes) {
      downstream.destroy();
      upstream.destroy();
    }
    this.#server?.close();
  }

  #accept(downstream, upstreamPort) {
    downstream.on('error', () => {});
    downstream.once('data', (bytes) => {
      const head = bytes.toString('latin1');
      if (!this.open && head.startsWith('GET /ws/')) downstream.destroy();
      else this.#pass({ downstream, upstream: connect(upstreamPort, '127.0.0.1'), head }, bytes);
    });
  }

  /** @param {Pipe} pipe */
  #pass(pipe, bytes) {
    const { downstream, upstream } = pipe;
    this.#pipes.add(pipe);
    upstream.write(bytes);
    downstream.pipe(upstream);
    upstream.pipe(downstream);
    const end = () => {
      this.#pipes.delete(pipe);
      downstream.destroy();
      upstream.destroy();
    };
    for (const socket of [downstream, upstream]) socket.on('error', end).on('close', end);
  }

  #pipesOf(door = '') {
    return [...this.#pipes].filter(({ head }) => head.startsWith(`GET /ws/${door}`));
  }
}
