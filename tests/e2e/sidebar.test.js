/** The list of chats: found, marked, paged, and put away. Goes with items 2 and 7 of the checklist. */

import assert from 'node:assert/strict';
import { e2e } from './support/e2e.js';

e2e('an answer in a chat that is not looked at is marked', async (stage) => {
  const tab = await stage.open();
  await tab.startChat('Helper');
  await tab.say('/count 300 20');
  await tab.counted(5);
  await tab.page.getByRole('link', { name: 'New chat' }).click();
  const row = tab.page.locator('.session', { hasText: '/count 300 20' });
  await row.getByText('responding').waitFor();
  await stage.shot(tab, '02-activity');

  await row.getByText('new answer').waitFor();

  await stage.shot(tab, '02-unread');
  await row.getByRole('link').click();
  await row.getByText('new answer').waitFor({ state: 'detached' });
  await tab.assertCounted(300);
});

e2e('many chats come in pages, and are found by their names', async (stage) => {
  const log = await stage.commander();
  for (let index = 1; index <= 60; index++) await log.create('helper', `Chat number ${index}`);
  const tab = await stage.open();
  const rows = tab.page.locator('.session');
  await rows.nth(49).waitFor();
  assert.equal(await rows.count(), 50);

  await tab.button('More', { exact: true }).click();
  await rows.nth(59).waitFor();
  assert.equal(await tab.button('More', { exact: true }).count(), 0);
  const titles = await tab.page.locator('.session-title').allInnerTexts();
  assert.equal(new Set(titles).size, 60);

  await tab.page.getByRole('searchbox').fill('number 17');
  await rows.nth(1).waitFor({ state: 'detached' });
  assert.match(await rows.first().innerText(), /Chat number 17/);
  await stage.shot(tab, '02-search');
  await tab.page.getByRole('searchbox').fill('');
  await rows.nth(1).waitFor();
});

e2e('the list is put away, and stays away', async (stage) => {
  const tab = await stage.open();
  await tab.button('Hide chats').click();
  await tab.button('Show chats').waitFor();
  await stage.shot(tab, '02-no-sidebar');
  await tab.page.reload();
  await tab.page.locator('button.card').first().waitFor();
  assert.equal(await tab.page.getByRole('navigation', { name: 'Chats' }).count(), 0);
  await tab.button('Show chats').click();
  await tab.page.getByRole('navigation', { name: 'Chats' }).waitFor();
});
