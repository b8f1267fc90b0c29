/** The server dies and comes back: item 5 of the checklist. */

import assert from 'node:assert/strict';
import { e2e } from './support/e2e.js';
import { until } from './support/until.js';

e2e(
  'a server that is killed in mid-answer is waited for, and the loss is told as it is',
  async (stage) => {
    // Waits that are neither long nor none.
    const tab = await stage.open({}, (page) => page.addInitScript(() => (Math.random = () => 0.3)));
    tab.losesConnections = true;
    const lost = await tab.startChat('Helper');
    await tab.say('/count 300 20');
    await tab.counted(30);
    await stage.server.kill('SIGKILL');

    const dialog = tab.connectionDialog;
    await dialog.getByText('Connection closed – retrying').waitFor();
    // The count rises, and what is being written goes on being written.
    await dialog.getByText(/Attempt [3-9]/).waitFor();
    await tab.field.pressSequentially('written while it was away');
    assert.match(await tab.focused(), /^textarea/);
    await stage.shot(tab, '05-killed');

    await stage.server.start();

    // Its store was its memory: nothing is left of the chat but what this tab has.
    await tab.text('This chat is gone from the server.').waitFor();
    await dialog.waitFor({ state: 'detached' });
    await stage.shot(tab, '05-gone');
    assert.ok((await tab.count()).last >= 30, 'what had come stays');
    assert.equal((await tab.count()).wrong, undefined);
    assert.equal(await tab.stop.count(), 0);
    assert.equal(await tab.page.locator('.has-caret, .thinking').count(), 0);
    assert.equal(await tab.field.inputValue(), 'written while it was away');

    await tab.button('Start a new chat with Helper').click();
    await until('another session', () => tab.sessionId !== lost);
    await tab.ready();
    assert.equal(await tab.field.inputValue(), 'written while it was away');
    await stage.shot(tab, '05-carried');
    await tab.field.press('Enter');
    await tab.ownMessages('written while it was away').waitFor();
    await tab.idle();
    await tab.answer.getByText('You wrote:').waitFor();
  },
);

e2e('a message sent to a server that is gone goes along into the new chat', async (stage) => {
  const tab = await stage.open();
  tab.losesConnections = true;
  await tab.startChat('Helper');
  await tab.ask('/echo before');
  await stage.server.kill('SIGKILL');
  await tab.connectionDialog.waitFor();
  await tab.say('/echo sent too late');
  await tab.text('Will be sent when the connection is back').waitFor();
  await stage.server.start();
  await tab.text('This chat is gone from the server.').waitFor();

  await tab.button('Start a new chat with Helper').click();

  await tab.page.waitForFunction(() => document.querySelectorAll('.message').length === 1);
  await tab.ready();
  assert.equal(await tab.field.inputValue(), '/echo sent too late');
});

e2e(
  'a server that stops in good order says so, and how the answer ended',
  async (stage) => {
    const tab = await stage.open();
    tab.losesConnections = true;
    await tab.startChat('Helper');
    await tab.say('/count 5000 20');
    await tab.counted(10);

    const stopped = stage.server.kill('SIGTERM');

    await tab.connectionDialog.getByText('Server is restarting – retrying').waitFor();
    await tab.text('Interrupted: the server restarted').waitFor();
    await stage.shot(tab, '05-drained');
    await stopped;
    assert.equal((await tab.count()).wrong, undefined);
  },
  { DUOLOGUE_DRAIN_SECS: '1' },
);

/** Kept in the server's own directory, which outlives the process. */
const KEPT = { DUOLOGUE_STORE: 'sqlite:data/duologue.db' };

e2e(
  'a page that is reloaded after the server was killed finds the chat, and the answer that was cut',
  async (stage) => {
    const tab = await stage.open();
    tab.losesConnections = true;
    const sessionId = await tab.startChat('Helper');
    await tab.ask('/echo before');
    await tab.say('/count 300 20');
    await tab.counted(100);
    await tab.say('/echo waits its turn');
    await tab.text('1 waiting').waitFor();
    // Checkpoints are made once a second: something of the answer is kept.
    await tab.counted(150);
    await stage.server.kill('SIGKILL');
    await tab.connectionDialog.waitFor();
    await stage.server.start();

    await tab.page.reload();

    await tab.ready();
    assert.equal(tab.sessionId, sessionId);
    await tab.text('Interrupted: the server restarted').waitFor();
    await tab.text('waits its turn', { exact: true }).waitFor();
    await tab.idle();
    await stage.shot(tab, '05-found-again');
    assert.equal(await tab.text('Interrupted: the server restarted').count(), 1);
    for (const text of ['/echo before', '/count 300 20', '/echo waits its turn']) {
      assert.equal(await tab.ownMessages(text).count(), 1, text);
    }
    const answers = await tab.page.locator('.from-agent .markdown').allInnerTexts();
    assert.deepEqual([answers.at(-3).trim(), answers.at(-1).trim()], ['before', 'waits its turn']);
    const numbers = answers.at(-2).trim().split(' ');
    assert.ok(numbers.length > 1 && numbers.length < 300, `${numbers.length} numbers`);
    // The last may be a part of one.
    numbers.slice(0, -1).forEach((number, index) => assert.equal(number, String(index + 1)));
    await tab.row('/echo before').waitFor();

    await tab.ask('/echo after it');
    const log = await stage.commander();
    assert.deepEqual(await log.questions(sessionId), [
      '/echo before',
      '/count 300 20',
      '/echo waits its turn',
      '/echo after it',
    ]);
  },
  KEPT,
);

e2e(
  'a page that stays open through a kill goes on where it was',
  async (stage) => {
    const tab = await stage.open();
    tab.losesConnections = true;
    const sessionId = await tab.startChat('Helper');
    await tab.ask('/echo before');
    await tab.say('/count 300 20');
    await tab.counted(60);
    await stage.server.kill('SIGKILL');
    await tab.connectionDialog.waitFor();
    await tab.say('/echo sent while it was away');
    await tab.text('Will be sent when the connection is back').waitFor();
    await stage.server.start();

    await tab.text('Interrupted: the server restarted').waitFor();
    await tab.text('sent while it was away', { exact: true }).waitFor();
    await tab.idle();
    await stage.shot(tab, '05-went-on');
    assert.equal(tab.sessionId, sessionId);
    assert.equal(await tab.ownMessages('/echo sent while it was away').count(), 1);
    assert.equal(await tab.text('Interrupted: the server restarted').count(), 1);
    const log = await stage.commander();
    const ends = (await log.history(sessionId)).filter(({ type }) => type === 'run_finished');
    assert.deepEqual(
      ends.map(({ data }) => data.outcome),
      ['completed', 'interrupted', 'completed'],
    );
  },
  KEPT,
);
