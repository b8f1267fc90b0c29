/** Small screens, large letters, and what people have set: item 10 of the checklist. */

import assert from 'node:assert/strict';
import { e2e } from './support/e2e.js';

async function assertFits(tab) {
  const wide = await tab.page.evaluate(() => [
    document.documentElement.scrollWidth - innerWidth,
    document.documentElement.scrollHeight - innerHeight,
    // What scrolls may do so within itself.
    Math.max(
      ...[
        ...document.querySelectorAll(
          '.message, .bar, .composer, .notice, .card, .tool, .tool-body > *, .task, .task > *, .task-bar > *, .state-panel, .chip',
        ),
      ].map((element) => element.getBoundingClientRect().right - innerWidth),
      0,
    ),
  ]);
  assert.ok(
    wide.every((excess) => excess <= 0),
    `${wide}`,
  );
}

for (const [width, height] of [
  [360, 640],
  [320, 568],
]) {
  e2e(
    `a phone of ${width} × ${height} shows everything without sideways scrolling`,
    async (stage) => {
      const viewport = { width, height };
      const tab = await stage.open({ viewport, hasTouch: true, isMobile: true });
      await tab.page.locator('button.card').first().waitFor();
      await assertFits(tab);
      await stage.shot(tab, `10-${width}-agents`);
      await tab.startChat('Writer');
      await tab.ask('/lorem 150');
      await tab.ask(`/echo ${'Donaudampfschifffahrtsgesellschaft'.repeat(5)}`);
      await tab.ask('/fail rate_limit');
      await assertFits(tab);
      await stage.shot(tab, `10-${width}-chat`);
      await tab.viewport.evaluate((list) => (list.scrollTop = list.scrollHeight / 4));
      await stage.shot(tab, `10-${width}-answer`);

      await tab.button('Show chats').click();
      const drawer = tab.page.getByRole('dialog', { name: 'Chats' });
      await drawer.waitFor();
      await assertFits(tab);
      await stage.shot(tab, `10-${width}-drawer`);
      await tab.page.keyboard.press('Escape');
      await drawer.waitFor({ state: 'detached' });
      await tab.focusReaches(/Show chats/);

      await tab.button('Show chats').click();
      await drawer.getByRole('link', { name: 'New chat' }).click();
      await drawer.waitFor({ state: 'detached' });
      await tab.page.getByRole('heading', { name: 'Start a chat' }).waitFor();

      tab.losesConnections = true;
      await stage.server.kill();
      await tab.connectionDialog.waitFor();
      await assertFits(tab);
      await stage.shot(tab, `10-${width}-outage`);
    },
  );
}

e2e('a phone has room for what agents do', async (stage) => {
  const viewport = { width: 360, height: 640 };
  const tab = await stage.open({ viewport, hasTouch: true, isMobile: true, colorScheme: 'dark' });
  await tab.startChat('Clerk');
  await tab.say('/tool clock {"timezone":"America/Argentina/ComodRivadavia"}');
  const form = tab.page.getByRole('form', { name: 'Approval of clock' });
  await form.waitFor();
  await assertFits(tab);
  await stage.shot(tab, '10-360-approval');
  await form.getByRole('button', { name: 'Edit…' }).click();
  await form.getByRole('textbox').waitFor();
  await assertFits(tab);
  await stage.shot(tab, '10-360-edit');
  await form.getByRole('button', { name: 'Approve with these' }).click();
  await tab.idle();
  await assertFits(tab);
  await stage.shot(tab, '10-360-call');

  await tab.page.goto(stage.server.url);
  await tab.startChat('Combat tracker');
  await tab.ask('/fight');
  await tab.ask('/condition Goblin frightened of the ogre');
  await tab.page.getByRole('list', { name: 'Suggestions' }).waitFor();
  await assertFits(tab);
  await stage.shot(tab, '10-360-suggestions');
  await tab.button('Shared state').click();
  await tab.page.getByRole('region', { name: 'Shared state' }).getByText('7 / 7').waitFor();
  await assertFits(tab);
  await stage.shot(tab, '10-360-fight');

  await tab.page.goto(`${stage.server.url}#/tasks`);
  await tab.button('New task').click();
  const fields = tab.page.getByRole('form', { name: 'New task' });
  await fields.getByLabel('Agent').selectOption({ label: 'Worker' });
  await fields.getByLabel('Name').fill('Donaudampfschifffahrtsgesellschaft'.repeat(3));
  await fields.getByLabel('What is to be done').fill('/steps 15 1000');
  await assertFits(tab);
  await stage.shot(tab, '10-360-new-task');
  await fields.getByRole('button', { name: 'Create' }).click();
  await tab.page.getByRole('progressbar').waitFor();
  await assertFits(tab);
  await stage.shot(tab, '10-360-tasks');
  await tab.page.getByRole('link', { name: /^Donau/ }).click();
  await tab.page.locator('.task-bar').waitFor();
  await assertFits(tab);
  await stage.shot(tab, '10-360-task');
});

const SETTINGS = {
  reduced: { reducedMotion: 'reduce' },
  forced: { forcedColors: 'active' },
  'forced-dark': { forcedColors: 'active', colorScheme: 'dark' },
  zoom: { viewport: { width: 640, height: 400 }, deviceScaleFactor: 2 },
};

for (const [name, options] of Object.entries(SETTINGS)) {
  e2e(`the page works with ${name} settings`, async (stage) => {
    const tab = await stage.open(options);
    await tab.startChat('Writer');
    await tab.ask('/lorem 150');
    await tab.ask('/fail auth');
    await tab.say('/count 5000 20');
    await tab.counted(5);
    await assertFits(tab);
    assert.ok(await tab.stop.isVisible());
    assert.ok(await tab.field.isVisible());
    const animated = await tab.page.evaluate(() => document.getAnimations().length);
    assert.equal(animated === 0, name === 'reduced', `${animated} animations`);
    await stage.shot(tab, `10-${name}`);
    await tab.stop.click();
    await tab.idle();
  });
}

e2e('the theme is chosen, kept, and the same in every tab', async (stage) => {
  const tab = await stage.open();
  const other = await stage.openIn(tab.page.context(), stage.server.url);
  const background = ({ page }) =>
    page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await background(tab);
  await tab.button(/^Theme: as the system/).click();
  await tab.button(/^Theme: light/).click();
  await tab.button(/^Theme: dark/).waitFor();
  await other.button(/^Theme: dark/).waitFor();
  const dark = await background(tab);
  assert.notEqual(dark, light);
  assert.equal(await background(other), dark);

  await tab.page.reload();

  await tab.button(/^Theme: dark/).waitFor();
  assert.equal(await background(tab), dark);
});
