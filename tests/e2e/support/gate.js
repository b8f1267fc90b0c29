/**
 * Stands between a page and one of its sockets, inside the browser: holds back what the server says, and
 * ends the connection with any code. What it lets through is the real server's.
 */

export class Gate {
  /** How often the page has opened this socket. */
  opened = 0;
  /** Asked at each opening for a code to close it with at once. @type {() => number | undefined} */
  refuse = () => undefined;
  /** What is said to a frame of the page's in place of the server, to which it is not passed on then. @type {(frame: any) => any} */
  answer = () => undefined;
  #connection;

  /**
   * @param {import('playwright-core').Page} page
   * @param {import('./proxy.js').Door} door
   */
  static async on(page, door) {
    const gate = new Gate();
    await page.routeWebSocket(
      (url) => url.pathname === `/ws/${door}`,
      (socket) => gate.#open(socket),
    );
    return gate;
  }

  #open(socket) {
    this.opened++;
    const code = this.refuse();
    if (code !== undefined) return void socket.close({ code, reason: `reason ${code}` });
    const connection = { socket, server: socket.connectToServer(), held: undefined };
    socket.onMessage((message) => {
      const answer = this.answer(JSON.parse(String(message)));
      if (answer) socket.send(JSON.stringify(answer));
      else connection.server.send(message);
    });
    connection.server.onMessage((message) => {
      if (connection.held) connection.held.push(message);
      else socket.send(message);
    });
    this.#connection = connection;
  }

  /** Keeps back what the server says from now on; a connection that is opened later is not held. */
  hold() {
    this.#connection.held ??= [];
  }

  release() {
    const { held, socket } = this.#connection;
    this.#connection.held = undefined;
    for (const message of held ?? []) socket.send(message);
  }

  /** Ends the connection as if the server had. */
  async close(code) {
    const { socket, server } = this.#connection;
    await socket.close({ code, reason: `reason ${code}` });
    await server.close();
  }
}
