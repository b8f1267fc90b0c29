/** Without a mouse: item 9 of the checklist. */

import assert from 'node:assert/strict';
import { e2e } from './support/e2e.js';
import { until } from './support/until.js';

/** Tabs on until something of that name has the focus. */
async function tabTo(tab, name, key = 'Tab') {
  await until(`the focus on ${name}`, async () => {
    await tab.page.keyboard.press(key);
    return name.test(await tab.focused());
  });
}

e2e('from load to answer to stop, by keys alone', async (stage) => {
  const tab = await stage.open();
  const { keyboard } = tab.page;
  await tab.page.locator('button.card').first().waitFor();
  await tabTo(tab, /^button .*Helper/);
  await stage.shot(tab, '09-focus');
  await keyboard.press('Enter');
  await tab.ready();
  await tab.focusReaches(/^textarea/);

  await keyboard.type('one line');
  await keyboard.press('Shift+Enter');
  await keyboard.type('and another');
  assert.equal(await tab.field.inputValue(), 'one line\nand another');
  await tab.field.fill('');

  await keyboard.type('/count 5000 20');
  await keyboard.press('Enter');
  await tab.counted(10);
  assert.match(await tab.focused(), /^textarea/);
  await keyboard.press('Escape');
  await tab.text('Stopped', { exact: true }).waitFor();
  await tab.idle();

  await keyboard.press('ArrowUp');
  assert.equal(await tab.field.inputValue(), '/count 5000 20', 'the last message comes back');
  await tab.field.fill('');
  await tabTo(tab, /^button Copy message/, 'Shift+Tab');
  assert.ok(await tab.page.evaluate(() => globalThis.probes.focus.lost < 3), 'focus on body');
});

e2e('the menu, the help and the search answer to their keys', async (stage) => {
  const tab = await stage.open();
  const { keyboard } = tab.page;
  await tab.startChat('Helper');
  await tab.focusReaches(/^textarea/);

  await keyboard.type('?');
  assert.equal(await tab.field.inputValue(), '?', 'within a field it is a letter');
  await tab.field.fill('');
  const menu = tab.page.locator('.title-menu');
  await menu.focus();
  await keyboard.press('?');
  const help = tab.page.getByRole('dialog', { name: 'Keyboard shortcuts' });
  await help.waitFor();
  await stage.shot(tab, '09-shortcuts');
  await keyboard.press('Escape');
  await help.waitFor({ state: 'detached' });
  await tab.focusReaches(/Actions for/);

  await keyboard.press('Enter');
  await tab.focusReaches(/Rename/);
  await keyboard.press('ArrowDown');
  assert.match(await tab.focused(), /Close/);
  await keyboard.press('End');
  assert.match(await tab.focused(), /Delete/);
  await stage.shot(tab, '09-menu');
  await keyboard.press('Escape');
  await tab.focusReaches(/Actions for/);

  await keyboard.press('Enter');
  await tab.focusReaches(/Rename/);
  await keyboard.press('Enter');
  await tab.focusReaches(/^input Name of the chat/);
  await keyboard.type('not this');
  await keyboard.press('Escape');
  await tab.focusReaches(/Actions for Helper/);

  await keyboard.press('Enter');
  await tab.focusReaches(/Rename/);
  await keyboard.press('Enter');
  await tab.focusReaches(/^input Name of the chat/);
  await keyboard.type('Trip plan');
  await keyboard.press('Enter');
  await tab.focusReaches(/Actions for Trip plan/);

  await keyboard.press('Control+k');
  await tab.focusReaches(/^input Search chats and messages/);
  await keyboard.type('nothing like it');
  await tab.page.getByText('No chat is called “nothing like it”').waitFor();
  await stage.shot(tab, '09-search');
  await tab.page.getByRole('searchbox').fill('trip');
  await tab.page.locator('.session-title', { hasText: 'Trip plan' }).waitFor();

  await keyboard.press('Control+Shift+O');
  await tab.page.getByRole('heading', { name: 'Start a chat' }).waitFor();
  assert.ok(await tab.page.evaluate(() => globalThis.probes.focus.lost < 3), 'focus on body');
});

e2e('Enter that ends a composition of an input method does not send', async (stage) => {
  const tab = await stage.open();
  await tab.startChat('Helper');
  await tab.field.focus();
  const devtools = await tab.page.context().newCDPSession(tab.page);
  const composition = { text: 'にほ', selectionStart: 2, selectionEnd: 2 };
  await devtools.send('Input.imeSetComposition', composition);
  const enter = { key: 'Enter', code: 'Enter', windowsVirtualKeyCode: 229 };
  await devtools.send('Input.dispatchKeyEvent', { type: 'rawKeyDown', ...enter });
  await devtools.send('Input.dispatchKeyEvent', { type: 'keyUp', ...enter });
  await stage.shot(tab, '09-composing');
  await devtools.send('Input.insertText', { text: '日本' });
  assert.equal(await tab.field.inputValue(), '日本');
  assert.equal(await tab.page.locator('.from-user').count(), 0);

  await tab.page.keyboard.press('Enter');

  await tab.ownMessages('日本').waitFor();
  await tab.idle();
});
