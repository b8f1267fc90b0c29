/** What survives a reload: item 4 of the checklist. */

import assert from 'node:assert/strict';
import { e2e } from './support/e2e.js';
import { Gate } from './support/gate.js';
import { until } from './support/until.js';

e2e('a reload in mid-answer loses no number and shows none twice', async (stage) => {
  const tab = await stage.open();
  await tab.startChat('Helper');
  await tab.say('/count 300 20');
  await tab.counted(50);
  const before = await tab.count();
  tab.received.length = 0;

  await tab.page.reload();

  await tab.counted(before.last + 1);
  await stage.shot(tab, '04-reloaded');
  await tab.idle();
  const { first } = await tab.count();
  assert.ok(first >= before.last, `what was there is there at once: ${before.last}, then ${first}`);
  await tab.assertCounted(300);
  const types = tab.received.map(({ frame }) => frame.type);
  assert.ok(!types.includes('session_snapshot'), 'only what was missing is sent again');
});

e2e('who comes in mid-answer sees what came before and what comes after', async (stage) => {
  const tab = await stage.open();
  await tab.startChat('Helper');
  await tab.say('/count 200 20');
  await tab.counted(20);

  const other = await stage.open({ url: tab.page.url() });

  await other.counted(30);
  await Promise.all([tab.idle(), other.idle()]);
  await tab.assertCounted(200);
  await other.assertCounted(200);
});

e2e('messages that wait for an answer wait through a reload', async (stage) => {
  const tab = await stage.open();
  await tab.startChat('Helper');
  await tab.say('/count 5000 20');
  await tab.counted(10);
  await tab.say('/echo one');
  await tab.say('/echo two');
  await tab.text('2 waiting').waitFor();

  await tab.page.reload();

  await tab.text('2 waiting').waitFor();
  assert.equal(await tab.text('Waits for the answer before it').count(), 2);
  await tab.stop.click();
  await tab.text('two', { exact: true }).waitFor();
  await tab.idle();
  const answers = await tab.page.locator('.from-agent .markdown').allInnerTexts();
  assert.deepEqual(answers.slice(-2), ['one', 'two']);
});

e2e('a draft survives a reload and a look at another chat', async (stage) => {
  const tab = await stage.open();
  const first = await tab.startChat('Helper');
  await tab.field.pressSequentially('a draft for the helper');
  await tab.page.getByRole('link', { name: 'New chat' }).click();
  await tab.startChat('Writer');
  assert.equal(await tab.field.inputValue(), '');
  await tab.field.pressSequentially('another for the writer');
  // No pause after the last letter: leaving the page keeps it.
  await tab.page.reload();
  await tab.ready();
  assert.equal(await tab.field.inputValue(), 'another for the writer');

  await tab.page.goBack();
  await tab.page.goBack();

  await tab.ready();
  assert.equal(tab.sessionId, first);
  assert.equal(await tab.field.inputValue(), 'a draft for the helper');
  await stage.shot(tab, '04-draft');
  await tab.field.press('Enter');
  await tab.idle();
  await tab.page.reload();
  await tab.ready();
  assert.equal(await tab.field.inputValue(), '', 'what was sent is no draft any more');
});

e2e('a message that was not confirmed before a reload is sent once', async (stage) => {
  const log = await stage.commander();
  const gates = [];
  const tab = await stage.open({}, async (page) => {
    gates.push(await Gate.on(page, 'frontend-api'), await Gate.on(page, 'backend-api'));
  });
  const sessionId = await tab.startChat('Helper');
  // The server has it and says so, but nobody hears of it.
  for (const gate of gates) gate.hold();
  await tab.say('/echo only once');
  await until('the message in the log', async () => (await log.questions(sessionId)).length === 1);
  await tab.text('Sending…').waitFor();

  await tab.page.reload();

  await tab.ready();
  await tab.idle();
  assert.equal(await tab.ownMessages('/echo only once').count(), 1);
  await tab.ask('/echo after it');
  assert.deepEqual(await log.questions(sessionId), ['/echo only once', '/echo after it']);
});

e2e('a message written without a connection survives a reload and is sent once', async (stage) => {
  const log = await stage.commander();
  const proxy = await stage.proxy();
  const tab = await stage.open({ url: proxy.url });
  tab.losesConnections = true;
  const sessionId = await tab.startChat('Helper');
  proxy.open = false;
  proxy.cut();
  await tab.connectionDialog.waitFor();
  await tab.say('/echo from afar');
  await tab.text('Will be sent when the connection is back').waitFor();
  await stage.shot(tab, '04-unsent');

  await tab.page.reload();
  await tab.ownMessages('/echo from afar').waitFor();
  proxy.open = true;

  await tab.idle();
  assert.equal(await tab.ownMessages('/echo from afar').count(), 1);
  assert.deepEqual(await log.questions(sessionId), ['/echo from afar']);
});
