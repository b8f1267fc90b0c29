/** Chats that are deleted, and what can be done about it. */

import assert from 'node:assert/strict';
import { e2e } from './support/e2e.js';
import { Gate } from './support/gate.js';
import { until } from './support/until.js';

const toast = (tab) => tab.page.getByRole('region', { name: 'Deleted chats' });
const listed = async (log) => {
  const { sessions } = await log.command('session_management', { data: { action: 'list' } });
  return sessions.map((session) => session.session_id);
};
const deletions = (tab) => tab.sent.filter(({ frame }) => frame.data?.action === 'delete');

e2e('a chat that is deleted can be had back', async (stage) => {
  const log = await stage.commander();
  const sessionId = await log.create('helper', 'Keep me');
  const tab = await stage.open();
  await tab.chooseInList('Keep me', 'Delete');
  await tab.row('Keep me').waitFor({ state: 'detached' });
  await toast(tab).getByText('Deleted “Keep me”.').waitFor();
  await stage.shot(tab, '15-undo');

  await toast(tab).getByRole('button', { name: 'Undo' }).click();

  await tab.row('Keep me').waitFor();
  await toast(tab).waitFor({ state: 'detached' });
  await tab.page.reload();
  await tab.row('Keep me').waitFor();
  assert.deepEqual(deletions(tab), []);
  assert.deepEqual(await listed(log), [sessionId]);
});

e2e('the open chat is left when it is deleted, and come back to', async (stage) => {
  const tab = await stage.open();
  const sessionId = await tab.startChat('Helper');
  await tab.ask('/echo hello');
  await tab.field.pressSequentially('half a thought');
  await tab.page.locator('.title-menu').focus();
  await tab.page.keyboard.press('Enter');
  // The menu takes the focus a moment after it is shown.
  await tab.focusReaches(/Rename/);
  await tab.page.keyboard.press('End');
  assert.match(await tab.focused(), /Delete/);
  await tab.page.keyboard.press('Enter');
  await tab.page.getByRole('heading', { name: 'Start a chat' }).waitFor();
  // By keyboard, the way back has the focus, and waits for as long as it has it.
  await tab.focusReaches(/^button Undo/);

  await tab.page.keyboard.press('Enter');

  await tab.ready();
  assert.equal(tab.sessionId, sessionId);
  assert.equal(await tab.field.inputValue(), 'half a thought');
  assert.deepEqual(deletions(tab), []);
});

e2e('a chat that nobody takes back is gone, here and in another tab', async (stage) => {
  const log = await stage.commander();
  await log.create('helper', 'Rome');
  await log.create('helper', 'Paris');
  await log.create('helper', 'Oslo');
  const one = await stage.open();
  const two = await stage.openIn(one.page.context(), one.page.url());
  await two.row('Rome').waitFor();

  // A tab behind another one is drawn once a second.
  await one.page.bringToFront();
  await one.chooseInList('Rome', 'Delete');
  await one.chooseInList('Paris', 'Delete');
  await toast(one).getByText('Deleted 2 chats.').waitFor();
  await two.row('Rome').waitFor();
  await toast(one).waitFor({ state: 'detached' });

  await two.row('Rome').waitFor({ state: 'detached' });
  await two.row('Paris').waitFor({ state: 'detached' });
  await stage.shot(two, '15-gone');
  assert.equal((await listed(log)).length, 1);
  assert.equal(deletions(one).length, 2);
});

e2e('a deletion is not forgotten by a reload', async (stage) => {
  const log = await stage.commander();
  await log.create('helper', 'Rome');
  const tab = await stage.open();
  await tab.chooseInList('Rome', 'Delete');
  await toast(tab).waitFor();

  await tab.page.reload();

  await until('the end of the session', async () => (await listed(log)).length === 0);
  await tab.page.getByText('No chats yet').waitFor();
});

e2e('a deletion goes out when the tab is about to be closed', async (stage) => {
  const log = await stage.commander();
  await log.create('helper', 'Rome');
  const tab = await stage.open();
  await tab.chooseInList('Rome', 'Delete');
  await toast(tab).waitFor();

  // What is sent in the last moment of a page may not arrive: that is the browser's, and a busy machine's, to say.
  await tab.page.evaluate(() => dispatchEvent(new Event('beforeunload')));

  await until('the end of the session', async () => (await listed(log)).length === 0);
});

e2e('a deletion without a connection is made up for after a reload', async (stage) => {
  const log = await stage.commander();
  await log.create('helper', 'Rome');
  const proxy = await stage.proxy();
  const tab = await stage.open({ url: proxy.url });
  tab.losesConnections = true;
  await tab.row('Rome').waitFor();
  proxy.open = false;
  proxy.cut();
  await tab.connectionDialog.waitFor();
  await tab.chooseInList('Rome', 'Delete');
  await toast(tab).getByRole('button', { name: 'Dismiss' }).click();
  await tab.page.reload();
  await tab.connectionDialog.waitFor();
  assert.equal((await listed(log)).length, 1);

  proxy.open = true;

  await until('the end of the session', async () => (await listed(log)).length === 0);
  assert.equal(await tab.row('Rome').count(), 0);
});

e2e('who looks at a chat while it is deleted is told, and goes on elsewhere', async (stage) => {
  const one = await stage.open();
  const sessionId = await one.startChat('Helper');
  await one.ask('/echo hello');
  const two = await stage.openIn(one.page.context(), one.page.url());
  await two.ready();
  await one.say('/count 5000 20');
  await two.counted(10);
  await two.field.pressSequentially('half a thought');

  await one.chooseAction('Delete');
  await toast(one).getByRole('button', { name: 'Dismiss' }).click();

  await two.text('This chat was deleted.').waitFor();
  assert.equal(await two.stop.count(), 0);
  assert.equal(await two.page.locator('.has-caret, .thinking').count(), 0);
  assert.ok(await two.field.evaluate(({ readOnly }) => readOnly));
  assert.equal(await two.field.inputValue(), 'half a thought');
  await two.ownMessages('/echo hello').waitFor();
  await stage.shot(two, '15-deleted-there');

  await two.button('Start a new chat with Helper').click();
  await until('another session', () => two.sessionId !== sessionId);
  await two.ready();
  assert.equal(await two.field.inputValue(), 'half a thought');
  const kept = await two.page.evaluate(() => [
    ...Object.keys(localStorage),
    ...Object.keys(sessionStorage),
  ]);
  assert.deepEqual(
    kept.filter((key) => key.includes(sessionId)),
    [],
  );

  // Who comes later finds nothing.
  const late = await stage.open({ url: `${stage.server.url}#/s/${sessionId}` });
  await late.text('The server has no chat').waitFor();
});

e2e('what the server would not delete is there again', async (stage) => {
  const log = await stage.commander();
  await log.create('helper', 'Rome');
  let gate;
  const tab = await stage.open({}, async (page) => {
    gate = await Gate.on(page, 'backend-api');
    gate.answer = ({ message_id, data }) =>
      data?.action === 'delete' && {
        v: 1,
        type: 'reply',
        reply_to: message_id,
        ok: false,
        error: { code: 'unavailable', message: 'the store is busy', details: {}, retryable: true },
      };
  });
  await tab.chooseInList('Rome', 'Delete');
  await toast(tab).getByRole('button', { name: 'Dismiss' }).click();

  await tab.page.getByText('“Rome” could not be deleted. The store is busy.').waitFor();
  await tab.row('Rome').waitFor();
  await stage.shot(tab, '15-refused');

  gate.answer = () => undefined;
  await tab.button('Try again').click();
  await until('the end of the session', async () => (await listed(log)).length === 0);
  await tab.row('Rome').waitFor({ state: 'detached' });
});

e2e('on a phone, a chat is deleted and had back in the drawer', async (stage) => {
  const log = await stage.commander();
  await log.create('helper', 'Rome');
  const tab = await stage.open({ viewport: { width: 360, height: 640 }, colorScheme: 'dark' });
  await tab.button('Show chats').click();
  await tab.chooseInList('Rome', 'Delete');
  await toast(tab).waitFor();
  await stage.shot(tab, '15-undo-narrow');
  await toast(tab).getByRole('button', { name: 'Undo' }).click();
  await tab.row('Rome').waitFor();
});
