/** What goes wrong is said where it went wrong, with what to do: item 11 of the checklist. */

import assert from 'node:assert/strict';
import { e2e } from './support/e2e.js';
import { until } from './support/until.js';

e2e('a provider that fails is told with its reason and a next step', async (stage) => {
  const tab = await stage.open();
  await tab.startChat('Helper');
  const notes = tab.page.locator('.error-note');

  await tab.ask('/fail auth');
  await notes.last().getByText('The provider does not accept the key').waitFor();
  await notes.last().getByText('Set the key that is named here where the server runs').waitFor();
  await notes.last().getByRole('button', { name: 'Try again' }).waitFor();

  await tab.ask('/fail rate_limit');
  await notes.last().getByText('The provider is asked too often').waitFor();
  // It counts down, and lets nobody ask too early.
  assert.ok(
    await notes
      .last()
      .getByRole('button', { name: /Try again in \d s/ })
      .isDisabled(),
  );
  await stage.shot(tab, '11-rate-limit');
  assert.equal(await notes.count(), 2);
  assert.equal(await notes.first().getByRole('button').count(), 0, 'what is past is not repeated');
  await notes.last().getByRole('button', { name: 'Try again', exact: true }).click();
  await until('another failure', async () => (await notes.count()) === 3);
  await tab.idle();

  for (const [kind, heading] of [
    ['timeout', 'The provider did not answer in time'],
    ['server', 'The provider failed'],
  ]) {
    await tab.ask(`/fail ${kind}`);
    await notes.last().getByText(heading).waitFor();
    await notes.last().getByRole('button', { name: 'Try again' }).waitFor();
  }

  await tab.ask('/fail cut');
  await until('the last failure', async () => (await notes.count()) === 6);
  await tab.answer.getByText('This answer will be cut off in the middle of its').waitFor();
  await notes.last().getByText('The provider failed').waitFor();
  await stage.shot(tab, '11-failures');

  // That a tool fails is for the agent to make something of.
  await tab.ask('/tool nothing {}');
  await tab.page.locator('.tool summary').filter({ hasText: 'failed' }).waitFor();
  await tab.answer.getByText('nothing').waitFor();
  await tab.ask('/echo all is well');
  assert.equal((await tab.answer.innerText()).trim(), 'all is well');
  await stage.shot(tab, '11-tool');
});

e2e('a message that is too long is not sent, and not lost', async (stage) => {
  const tab = await stage.open();
  await tab.startChat('Helper');
  const text = 'é'.repeat(150_000);
  await tab.field.evaluate((field, long) => (field.value = long), text);
  await tab.field.press('Enter');

  await tab.text(/KiB/).waitFor();

  assert.equal((await tab.field.inputValue()).length, text.length);
  assert.equal(await tab.page.locator('.from-user').count(), 0);
  await stage.shot(tab, '11-too-long');
  await tab.ask('/echo shorter');
  assert.equal(await tab.text(/KiB/).count(), 0);
});

e2e('a message that the server refuses can be sent again or changed', async (stage) => {
  const log = await stage.commander();
  const tab = await stage.open();
  const session_id = await tab.startChat('Helper');
  // One runs, and 32 wait: no more go in.
  const send = (content) => log.command('chat_message', { session_id, data: { content } });
  await send('/think 60000');
  for (let index = 0; index < 32; index++) await send(`/echo ${index}`);
  await tab.text('32 waiting').waitFor();

  await tab.field.fill('/echo one too many');
  await tab.field.press('Enter');
  await tab.text(/^Not sent\./).waitFor();
  await stage.shot(tab, '11-refused');

  await tab.button('Edit').click();
  await tab.text(/^Not sent\./).waitFor({ state: 'detached' });
  assert.equal(await tab.field.inputValue(), '/echo one too many');
  await tab.field.press('Enter');
  await tab.text(/^Not sent\./).waitFor();
  await tab.button('Stop and clear').click();
  await until('an empty queue', async () => (await tab.text(/waiting/).count()) === 0);

  await tab.button('Try again').click();

  await tab.answer.getByText('one too many').waitFor();
  await tab.idle();
});

e2e('a chat that has ended is read-only, and leads to the next', async (stage) => {
  const tab = await stage.open();
  const closed = await tab.startChat('Helper');
  await tab.ask('/echo before the end');
  await tab.chooseAction('Close');
  await stage.shot(tab, '11-close');
  await tab.button('Close chat').click();
  await tab.text('This chat is closed and takes no more messages.').waitFor();
  assert.ok(await tab.field.evaluate(({ readOnly }) => readOnly));
  await stage.shot(tab, '11-closed');
  await tab.button('Start a new chat with Helper').click();
  await until('another chat', () => tab.sessionId !== closed);
  await tab.ready();

  const refreshed = tab.sessionId;
  await tab.ask('/echo before the refresh');
  await tab.chooseAction('Refresh');
  await tab.button('Start afresh').click();
  await until('another chat', () => tab.sessionId !== refreshed);
  await tab.ready();
  await tab.page.goBack();
  await tab.text('This chat was started afresh').waitFor();
  await stage.shot(tab, '11-refreshed');
  await tab.page.getByRole('link', { name: 'Go to the new chat' }).click();
  await tab.ready();
  await tab.ask('/echo goes on');
});

e2e('an address that leads nowhere says so', async (stage) => {
  const tab = await stage.open({ url: `${stage.server.url}#/s/helper_000` });
  await tab.text('The server has no chat “helper_000”.').waitFor();
  await stage.shot(tab, '11-unknown-chat');
  await tab.page.getByRole('link', { name: 'Start a new chat' }).click();
  await tab.page.getByRole('heading', { name: 'Start a chat' }).waitFor();

  const other = await stage.open({ url: `${stage.server.url}#/nonsense/x` });
  await other.text('There is nothing at this address').waitFor();
  await stage.shot(other, '11-unknown-page');
  await other.page.getByRole('link', { name: 'Choose an agent' }).click();
  await other.page.getByRole('heading', { name: 'Start a chat' }).waitFor();
});
