/** What was said, found again. */

import assert from 'node:assert/strict';
import { e2e } from './support/e2e.js';
import { until } from './support/until.js';

const searchbox = (tab) => tab.page.getByRole('searchbox');
const hits = (tab) => tab.page.getByRole('region', { name: 'In messages' }).locator('a');

/** Talk of nothing much, with something in it. */
function talk(count, at, wanted) {
  return Array.from({ length: count }, (_, index) =>
    index === at ? wanted : `/echo small talk ${index}`,
  );
}

e2e('a message is found by its words, and shown where it stands', async (stage) => {
  const log = await stage.commander();
  const trip = await log.create('helper', 'Summer');
  await log.fill(trip, talk(150, 20, '/echo the ferry to Ischia leaves at <b>noon</b>'));
  await log.create('writer', 'Ferry timetable');
  const tab = await stage.open();
  await tab.page.locator('.session').nth(1).waitFor();

  await searchbox(tab).pressSequentially('ferry isch');
  // The question, and the answer to it.
  await hits(tab).nth(1).waitFor();
  assert.equal(await hits(tab).count(), 2);
  assert.deepEqual(await hits(tab).first().locator('mark').allInnerTexts(), ['ferry', 'Isch']);
  assert.ok((await hits(tab).first().innerText()).includes('<b>noon</b>'));
  await tab.text('No chat is called').or(tab.page.getByText('No chat is called')).first().waitFor();
  await stage.shot(tab, '13-hits');

  await searchbox(tab).fill('ferry');
  await tab.row('Ferry timetable').waitFor();
  await hits(tab).last().click();

  await tab.ready();
  await tab.sees('/echo the ferry to Ischia');
  assert.equal(tab.sessionId, trip);
  assert.equal(await tab.page.locator('.message.is-found').count(), 1);
  assert.match(await tab.focused(), /^article/);
  await stage.shot(tab, '13-found');
  await tab.page.locator('.message.is-found').waitFor({ state: 'detached' });

  // Once more, after having gone elsewhere in the same chat.
  await tab.button('Latest').click();
  await until('the end', async () => (await tab.distanceToEnd()) <= 2);
  assert.ok(!tab.page.url().includes('at='));
  await hits(tab).last().click();
  await tab.sees('/echo the ferry to Ischia');

  // What the address says holds for who comes with it.
  const other = await stage.open({ url: tab.page.url() });
  await other.sees('/echo the ferry to Ischia');

  await searchbox(tab).fill('');
  await hits(tab).first().waitFor({ state: 'detached' });
});

e2e('hits come in pages, and are gone through by keys', async (stage) => {
  const log = await stage.commander();
  const session = await log.create('helper', 'Many');
  await log.fill(session, talk(60, -1));
  const tab = await stage.open();
  await tab.row('Many').waitFor();
  await searchbox(tab).fill('small talk');
  await hits(tab).first().waitFor();
  const before = await hits(tab).count();
  assert.ok(before < 120);
  while ((await hits(tab).count()) < 120) {
    const more = tab.page.getByRole('region', { name: 'In messages' }).getByRole('button');
    const count = await hits(tab).count();
    await more.click();
    await until('more hits', async () => (await hits(tab).count()) > count);
  }
  const targets = await hits(tab).evaluateAll((links) => links.map(({ href }) => href));
  assert.equal(new Set(targets).size, 120);

  await searchbox(tab).focus();
  await tab.page.keyboard.press('ArrowDown');
  assert.match(await tab.focused(), /^a .*talk/s);
  await tab.page.keyboard.press('ArrowUp');
  assert.match(await tab.focused(), /^input/);
  await tab.page.keyboard.press('ArrowDown');
  await tab.page.keyboard.press('Enter');
  await tab.sees('small talk 59');

  await searchbox(tab).fill('nobody said this');
  await tab.page.getByText('No message has “nobody said this”').waitFor();
  await stage.shot(tab, '13-nothing');
  // Too short to look for.
  await searchbox(tab).fill('n');
  await tab.page.getByRole('region', { name: 'In messages' }).waitFor({ state: 'detached' });
});

e2e('on a phone, a hit closes the list and is there', async (stage) => {
  const log = await stage.commander();
  const session = await log.create('helper', 'Summer');
  await log.fill(session, talk(60, 10, '/echo the ferry to Ischia'));
  const tab = await stage.open({ viewport: { width: 360, height: 640 }, colorScheme: 'dark' });
  await tab.button('Show chats').click();
  await searchbox(tab).fill('ischia');
  await hits(tab).first().waitFor();
  await stage.shot(tab, '13-hits-narrow');

  await hits(tab).last().click();

  await tab.page.locator('.drawer').waitFor({ state: 'detached' });
  await tab.sees('/echo the ferry to Ischia');
  await stage.shot(tab, '13-found-narrow');
});
