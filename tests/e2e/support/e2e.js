/** A test with a server and a browser of its own, which leaves pictures, and more of them where it fails. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { launchBrowser } from './browser.js';
import { Commander } from './commander.js';
import { OUTPUT } from './paths.js';
import { installProbes } from './probes.js';
import { Proxy } from './proxy.js';
import { Server } from './server.js';
import { Tab } from './tab.js';

const TEST_MS = 120_000;

/** @type {Promise<import('playwright-core').Browser> | undefined} */
let browser;
after(async () => (await browser)?.close());

/**
 * @param {string} name what must hold
 * @param {(stage: Stage) => Promise<void>} body
 * @param {Record<string, string>} [environment] the server's settings
 */
export function e2e(name, body, environment = {}) {
  void test(name, { timeout: TEST_MS }, async () => {
    const stage = new Stage(new Server(environment));
    try {
      await stage.server.start();
      await body(stage);
      for (const tab of stage.tabs) tab.assertQuiet();
    } catch (error) {
      await stage.keepEvidence(name);
      throw error;
    } finally {
      await stage.clear();
    }
  });
}

/** @typedef {(page: import('playwright-core').Page) => Promise<unknown>} Prepare what comes before the page */

export class Stage {
  /** @type {Tab[]} */
  tabs = [];
  /** @type {(() => unknown)[]} */
  #endings = [];

  /** @param {Server} server */
  constructor(server) {
    this.server = server;
  }

  /**
   * Opens the page in a window of its own, which shares nothing with others.
   *
   * @param {import('playwright-core').BrowserContextOptions & { url?: string, probes?: boolean }} [options]
   * @param {Prepare} [prepare]
   */
  async open({ url = this.server.url, probes = true, ...options } = {}, prepare = undefined) {
    browser ??= launchBrowser();
    const context = await (
      await browser
    ).newContext({ viewport: { width: 1280, height: 800 }, locale: 'en-GB', ...options });
    this.#endings.push(() => context.close());
    if (probes) await context.addInitScript(installProbes);
    return this.openIn(context, url, prepare);
  }

  /**
   * Opens the page in one more tab of a window.
   *
   * @param {import('playwright-core').BrowserContext} context
   * @param {string} url
   * @param {Prepare} [prepare]
   */
  async openIn(context, url, prepare) {
    const page = await context.newPage();
    const tab = new Tab(page, `tab ${this.tabs.length + 1}`);
    this.tabs.push(tab);
    await prepare?.(page);
    await page.goto(url);
    return tab;
  }

  /** A proxy in front of the server, with an address of its own. */
  async proxy() {
    const proxy = await new Proxy().start(this.server.port);
    this.#endings.push(() => proxy.destroy());
    return proxy;
  }

  /** A client beside the page. */
  async commander() {
    const commander = await new Commander().connect(this.server);
    this.#endings.push(() => commander.close());
    return commander;
  }

  /**
   * Keeps a picture, named by its item of the checklist.
   *
   * @param {Tab} tab
   */
  async shot(tab, name) {
    await tab.drawn();
    mkdirSync(OUTPUT, { recursive: true });
    await tab.page.screenshot({ path: join(OUTPUT, `${name}.png`) });
  }

  async keepEvidence(name) {
    const path = join(OUTPUT, `FAILED ${name.replaceAll(/[^\w -]/g, '')}`);
    mkdirSync(OUTPUT, { recursive: true });
    const notes = this.tabs.map((tab) => `${tab.name}\n${tab.problems.join('\n')}\n`);
    writeFileSync(`${path}.txt`, [...notes, 'server', this.server.log].join('\n'));
    for (const [index, { page }] of this.tabs.entries()) {
      await page.screenshot({ path: `${path} ${index + 1}.png`, timeout: 5_000 }).catch(() => {});
    }
  }

  async clear() {
    for (const end of this.#endings.toReversed()) await end();
    await this.server.destroy();
  }
}
