/** The server under test: the real binary, in a process and a directory of its own. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inRepository } from './paths.js';
import { until } from './until.js';

const BINARY = process.env.DUOLOGUE_BIN ?? inRepository('target/debug/duologue');

/** Servers that still run; none outlives the tests. */
const running = new Set();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

export class Server {
  /** All that it has printed. */
  log = '';
  port = 0;
  #child;
  #directory;
  #environment;

  /** @param {Record<string, string>} environment settings beside those of every test */
  constructor(environment = {}) {
    if (!existsSync(BINARY)) {
      throw new Error(
        `there is no server at ${BINARY}: build it (npm --prefix static run build && cargo build), ` +
          'or name another in DUOLOGUE_BIN',
      );
    }
    this.#environment = environment;
    this.#directory = mkdtempSync(join(tmpdir(), 'duologue-e2e-'));
  }

  get url() {
    return `http://127.0.0.1:${this.port}/`;
  }

  /** Starts it; once more after its end, it takes the same port. */
  async start() {
    const child = spawn(BINARY, ['serve'], {
      // Away from any .env.
      cwd: this.#directory,
      env: {
        DUOLOGUE_AGENTS: inRepository('agents.toml'),
        DUOLOGUE_STORE: 'memory:',
        ...this.#environment,
        DUOLOGUE_BIND: `127.0.0.1:${this.port}`,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    running.add(child);
    child.once('exit', () => running.delete(child));
    let printed = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        printed += text;
        this.log += text;
      });
    }
    this.#child = child;
    const [, port] = await until('the server to listen', () => {
      if (child.exitCode !== null) throw new Error(`the server did not start:\n${printed}`);
      return /^listening on http:\/\/127\.0\.0\.1:(\d+)$/m.exec(printed);
    });
    this.port = Number(port);
    return this;
  }

  /**
   * Ends the process and waits until it is gone.
   *
   * @param {NodeJS.Signals} signal
   */
  async kill(signal = 'SIGKILL') {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill(signal);
    await gone;
  }

  async destroy() {
    await this.kill();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
