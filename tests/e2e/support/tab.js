/** One tab of the browser with the page in it, and what tests do there and look for. */

import assert from 'node:assert/strict';
import { PATIENCE_MS, until } from './until.js';

/** What a browser says of a lost connection, wherever it was lost. */
const LOST = /WebSocket connection to '|ERR_CONNECTION_REFUSED|ERR_INTERNET_DISCONNECTED/;

export class Tab {
  /** What the console had to say. @type {string[]} */
  problems = [];
  /** Frames that came in, oldest first. @type {{ door: string, frame: any }[]} */
  received = [];
  /** Frames that went out. @type {{ door: string, frame: any }[]} */
  sent = [];
  /** The console may say that connections were lost. */
  losesConnections = false;

  /**
   * @param {import('playwright-core').Page} page
   * @param {string} name
   */
  constructor(page, name) {
    this.page = page;
    this.name = name;
    page.setDefaultTimeout(PATIENCE_MS);
    page.on('console', (message) => this.problems.push(`${message.type()}: ${message.text()}`));
    page.on('pageerror', (error) => this.problems.push(`uncaught: ${error.stack ?? error}`));
    page.on('dialog', (dialog) => {
      this.problems.push(`dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    page.on('request', (request) => this.#watchOrigin(request.url()));
    page.on('websocket', (socket) => {
      this.#watchOrigin(socket.url());
      const door = new URL(socket.url()).pathname.replace('/ws/', '');
      const keep = (frames) => (frame) => {
        frames.push({ door, frame: JSON.parse(String(frame.payload)) });
      };
      socket.on('framereceived', keep(this.received));
      socket.on('framesent', keep(this.sent));
    });
  }

  #watchOrigin(address) {
    const { hostname, protocol } = new URL(address);
    if (protocol !== 'data:' && hostname !== '127.0.0.1') {
      this.problems.push(`request to another origin: ${address}`);
    }
  }

  /** Fails if anything was said in the console that should not have been. */
  assertQuiet() {
    const problems = this.problems.filter((text) => !this.losesConnections || !LOST.test(text));
    assert.deepEqual(problems, [], `${this.name}: the console must be empty`);
  }

  // ---- what is there ----

  get field() {
    return this.page.locator('.composer textarea');
  }

  get stop() {
    return this.page.locator('.composer .stop');
  }

  /** The text of the last answer. */
  get answer() {
    return this.page.locator('.from-agent .markdown').last();
  }

  get connectionDialog() {
    return this.page.locator('.connection[role=dialog]');
  }

  get viewport() {
    return this.page.getByRole('log', { name: 'Messages' });
  }

  /** @param {string | RegExp} name */
  button(name, options = {}) {
    return this.page.getByRole('button', { name, ...options });
  }

  /** A text that is to be read, and not only heard. @param {string | RegExp} text */
  text(text, options = {}) {
    return this.page.locator('main').getByText(text, options);
  }

  /** Messages that the user has sent and that read so. */
  ownMessages(text) {
    return this.page.locator('.from-user .plain').filter({ hasText: new RegExp(`^${text}$`) });
  }

  get sessionId() {
    return decodeURIComponent(new URL(this.page.url()).hash.replace(/^#\/s\/|\?.*/g, ''));
  }

  // ---- what users do ----

  /** Opens a chat from the page of the agents, and returns its session's id. */
  async startChat(agent) {
    await this.page.locator('button.card', { hasText: agent }).click();
    await this.ready();
    return this.sessionId;
  }

  /** A chat is shown, and can be written in. */
  async ready() {
    await this.page.locator('.composer textarea:enabled').waitFor();
  }

  /** Sends a message; returns once it is shown, and the Stop button with it. */
  async say(text) {
    const before = await this.page.locator('.from-user').count();
    await this.field.fill(text);
    await this.field.press('Enter');
    await this.page.waitForFunction(
      (count) => document.querySelectorAll('.from-user').length > count,
      before,
    );
  }

  /** Nothing is being sent, and nothing is being answered. */
  async idle() {
    await this.page.waitForFunction(
      () => !document.querySelector('.stop, .message-status, .is-streaming, .thinking'),
    );
  }

  /** Sends a message and waits for the whole answer. */
  async ask(text) {
    await this.say(text);
    await this.idle();
  }

  /** Waits until the answer to `/count` has come so far. */
  async counted(to) {
    await this.page.waitForFunction((number) => globalThis.probes.count.last >= number, to);
  }

  /** What was seen of an answer to `/count` so far, in any frame of this document. */
  count() {
    return this.page.evaluate(() => globalThis.probes.count);
  }

  /** The answer is 1 to `to`, each once, and never was anything else on its way there. */
  async assertCounted(to) {
    const expected = Array.from({ length: to }, (_, index) => index + 1).join(' ');
    assert.equal((await this.answer.innerText()).trim(), expected);
    assert.equal((await this.count()).wrong, undefined, 'every frame shows a beginning of it');
  }

  /** How far it is to the end of the messages, in CSS pixels. */
  distanceToEnd() {
    return this.viewport.evaluate(
      ({ scrollHeight, clientHeight, scrollTop }) => scrollHeight - clientHeight - scrollTop,
    );
  }

  /** The page has drawn what it knows. */
  async drawn() {
    await this.page.evaluate(
      () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))),
    );
  }

  /** What has the focus, as a person would name it. */
  focused() {
    return this.page.evaluate(() => {
      const element = document.activeElement;
      const name = element?.getAttribute('aria-label') ?? element?.textContent?.trim() ?? '';
      return `${element?.tagName.toLowerCase()} ${name.slice(0, 60)}`;
    });
  }

  /** Waits until something so named has the focus. @param {RegExp} name */
  async focusReaches(name) {
    await until(`the focus on ${name}`, async () => name.test(await this.focused()));
  }

  /** A chat in the list, by a part of its name. */
  row(name) {
    return this.page.locator('.session').filter({ has: this.page.getByText(name) });
  }

  /** Chooses from the menu of a chat in the list. */
  async chooseInList(name, action) {
    await this.row(name).hover();
    await this.row(name)
      .getByRole('button', { name: /^Actions for/ })
      .click();
    await this.page.getByRole('menuitem', { name: action }).click();
  }

  /** A message that is in view, by its text. */
  async sees(text) {
    const message = this.page.locator('.message', { hasText: text }).first();
    await message.waitFor();
    await until(`“${text}” in view`, () =>
      message.evaluate((element) => {
        const seen = element.getBoundingClientRect();
        const view = element.closest('.viewport').getBoundingClientRect();
        return seen.top >= view.top - 1 && seen.top < view.bottom;
      }),
    );
  }

  /** Chooses from the menu of the open chat. */
  async chooseAction(name) {
    await this.page.locator('.title-menu').click();
    await this.page.getByRole('menuitem', { name }).click();
  }
}
