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
