/** The document that an agent and its clients share. Goes with issue 4. */

import assert from 'node:assert/strict';
import { e2e } from './support/e2e.js';
import { Gate } from './support/gate.js';
import { until } from './support/until.js';

const panel = (tab) => tab.page.getByRole('region', { name: 'Shared state' });
const row = (tab, name) => panel(tab).getByRole('row').filter({ hasText: name });
const openPanel = (tab) => tab.button('Shared state').click();

async function hitPoints(tab, name, text) {
  await row(tab, name).getByText(text, { exact: true }).waitFor();
}

/** A fight, seen in two tabs. */
async function fight(stage, prepare) {
  const one = await stage.open({}, prepare);
  await one.startChat('Combat tracker');
  const two = await stage.openIn(one.page.context(), one.page.url());
  await two.ready();
  await one.ask('/fight');
  for (const tab of [one, two]) {
    await openPanel(tab);
    await hitPoints(tab, 'Goblin', '7 / 7');
  }
  return { one, two };
}

e2e('a fight is the same in two tabs, whoever changes it', async (stage) => {
  const { one, two } = await fight(stage);
  await panel(one).getByRole('heading', { name: 'Round 1' }).waitFor();
  await row(one, 'Mira').getByText('its turn').waitFor();

  await one.ask('/hit Goblin 3');
  for (const tab of [one, two]) await hitPoints(tab, 'Goblin', '4 / 7');

  await two.button('Goblin loses hit points').click();
  for (const tab of [one, two]) await hitPoints(tab, 'Goblin', '3 / 7');
  await panel(two).getByRole('spinbutton', { name: 'How many, for Ogre' }).fill('20');
  await two.button('Ogre loses hit points').click();
  for (const tab of [one, two]) await hitPoints(tab, 'Ogre', '39 / 59');
  await two.button('Goblin gains hit points').click();
  for (const tab of [one, two]) await hitPoints(tab, 'Goblin', '4 / 7');

  await two.button('Add a condition to Goblin').click();
  await two.focusReaches(/A condition for Goblin/);
  await two.page.keyboard.type('prone');
  await two.page.keyboard.press('Enter');
  for (const tab of [one, two]) await row(tab, 'Goblin').getByText('prone').waitFor();
  await two.focusReaches(/Add a condition to Goblin/);
  await stage.shot(one, '23-fight');
  // The agent sees what clients have changed.
  await one.ask('/condition Goblin prone');
  for (const tab of [one, two]) {
    await row(tab, 'Goblin').getByText('prone').waitFor({ state: 'detached' });
  }

  for (const name of ['Goblin', 'Ogre', 'Mira']) {
    await one.button('Next turn').click();
    await row(two, name).getByText('its turn').waitFor();
  }
  await panel(two).getByRole('heading', { name: 'Round 2' }).waitFor();

  await two.page.reload();
  await two.ready();
  await openPanel(two);
  await hitPoints(two, 'Ogre', '39 / 59');
  await panel(two).getByRole('heading', { name: 'Round 2' }).waitFor();
});

e2e('a change that comes too late is made on what is there by then', async (stage) => {
  let gate;
  const log = await stage.commander();
  const { one, two } = await fight(stage, async (page) => {
    gate = await Gate.on(page, 'frontend-api');
  });
  gate.hold();
  const patch = [{ op: 'replace', path: '/combatants/1/hp', value: 5 }];
  const data = { patch, if_version: await version(log, one.sessionId) };
  await log.command('update_state', { session_id: one.sessionId, data });
  await hitPoints(two, 'Goblin', '5 / 7');
  await one.button('Goblin loses hit points').click();
  await until('the refusal', () =>
    one.received.some(({ frame }) => frame.type === 'reply' && frame.error?.code === 'conflict'),
  );

  gate.release();

  for (const tab of [one, two]) await hitPoints(tab, 'Goblin', '4 / 7');
  assert.equal(await panel(one).locator('.inline-problem').innerText(), '');
});

async function version(log, sessionId) {
  const events = await log.history(sessionId);
  return events.findLast(({ type }) => type === 'state.patch').data.version;
}

e2e('any document is a tree, in which what changes is marked', async (stage) => {
  const log = await stage.commander();
  const tab = await stage.open();
  const sessionId = await tab.startChat('Helper');
  assert.equal(await tab.button('Shared state').count(), 0, 'nothing is shown of nothing');
  const update = (if_version, ...patch) =>
    log.command('update_state', { session_id: sessionId, data: { patch, if_version } });
  const value = {
    city: 'Rome',
    days: 3,
    booked: true,
    stops: ['Forum', { name: 'Colosseum', tickets: { kind: 'early', price: 18.5 } }],
    notes: null,
  };
  await update(0, { op: 'replace', path: '', value });
  await openPanel(tab);
  await panel(tab).getByText('"Rome"').waitFor();
  await panel(tab).locator('summary', { hasText: '1 {2}' }).click();
  await panel(tab).getByText('"Colosseum"').waitFor();
  await stage.shot(tab, '23-tree');

  await update(1, { op: 'replace', path: '/days', value: 4 });
  await panel(tab).locator('.is-changed', { hasText: '4' }).waitFor();
  await panel(tab).locator('.is-changed').waitFor({ state: 'detached' });

  await tab.button('Shared state').click();
  await panel(tab).waitFor({ state: 'detached' });
});
