/** A chat that begins with another's past. */

import assert from 'node:assert/strict';
import { e2e } from './support/e2e.js';
import { until } from './support/until.js';

/** Forks at the last message with this text; returns the new session's id. */
async function fork(tab, text) {
  const before = tab.sessionId;
  const message = tab.page.locator('.message', { hasText: text }).last();
  await message.hover();
  await message.getByRole('button', { name: 'Fork from here' }).click();
  await until('the fork', () => tab.sessionId !== before);
  await tab.ready();
  return tab.sessionId;
}

e2e('a fork goes on from a message, and leaves the rest where it was', async (stage) => {
  const log = await stage.commander();
  const tab = await stage.open();
  const origin = await tab.startChat('Helper');
  await tab.ask('/echo one');
  await tab.ask('/echo two');
  await tab.ask('/echo three');

  const made = await fork(tab, '/echo two');

  await tab.text('Forked from').waitFor();
  assert.equal(await tab.ownMessages('/echo three').count(), 0);
  await tab.ask('/echo another three');
  await stage.shot(tab, '14-fork');
  assert.deepEqual(await log.questions(made), ['/echo one', '/echo two', '/echo another three']);
  assert.deepEqual(await log.questions(origin), ['/echo one', '/echo two', '/echo three']);
  await tab.page.waitForFunction(() => document.title.startsWith('Fork of /echo one'));
  await tab.row('Fork of /echo one').waitFor();

  // A reload knows it still, and so does somebody who was not there.
  await tab.page.reload();
  await tab.text('Forked from').waitFor();
  const other = await stage.open({ url: tab.page.url() });
  await other.text('Forked from').waitFor();
  // The mark stands between what is shared and what is not.
  const order = await other.page
    .locator('.messages > *')
    .evaluateAll((entries) => entries.map(({ textContent }) => textContent));
  const at = order.findIndex((text) => text.includes('Forked from'));
  assert.ok(order[at - 1].includes('two') && order[at + 1].includes('/echo another three'));

  await other.text('Forked from').getByRole('link').click();
  await until('the origin', () => other.sessionId === origin);
  await other.ownMessages('/echo three').waitFor();
});

e2e('a message of a run that goes on has no fork; the ones before it have', async (stage) => {
  const tab = await stage.open();
  await tab.startChat('Helper');
  await tab.ask('/echo before');
  await tab.say('/count 5000 20');
  await tab.counted(5);
  const forks = (text) =>
    tab.page.locator('.message', { hasText: text }).getByRole('button', { name: 'Fork from here' });
  assert.equal(await forks('/echo before').count(), 1);
  assert.equal(await forks('/count 5000').count(), 0);
  await fork(tab, '/echo before');
  assert.equal(await tab.stop.count(), 0);
  await tab.ask('/echo meanwhile');

  await tab.page.goBack();
  await tab.stop.click();
  await tab.idle();
  await forks('/count 5000').waitFor();
});

e2e('where another message waited, the fork is taken at the nearest place', async (stage) => {
  const log = await stage.commander();
  const tab = await stage.open();
  const origin = await tab.startChat('Helper');
  await tab.say('/count 30 20');
  await tab.counted(5);
  await tab.say('/echo queued');
  await tab.text('queued', { exact: true }).waitFor();
  await tab.idle();

  const made = await fork(tab, '/count 30 20');

  await tab.text('Forked from').waitFor();
  assert.notEqual(made, origin);
  const ends = (await log.history(made)).filter(({ type }) => type === 'run_finished');
  assert.equal(ends.length, 2);
});
