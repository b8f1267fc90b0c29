/** What those have of the page who do not see it as others do: item 9 of the checklist. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { e2e } from './support/e2e.js';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** Runs axe beside the page, in a world of its own that the page's policy does not bind. */
async function assertAccessible(tab, where) {
  const devtools = await tab.page.context().newCDPSession(tab.page);
  const { frameTree } = await devtools.send('Page.getFrameTree');
  const { executionContextId: contextId } = await devtools.send('Page.createIsolatedWorld', {
    frameId: frameTree.frame.id,
    worldName: 'axe',
  });
  const evaluate = (expression) =>
    devtools.send('Runtime.evaluate', {
      expression,
      contextId,
      awaitPromise: true,
      returnByValue: true,
    });
  await evaluate(AXE);
  const { result, exceptionDetails } = await evaluate(
    `axe.run(document, { resultTypes: ['violations'] }).then(({ violations, passes }) => ({
      checks: passes.length,
      violations: violations.map(({ id, nodes }) => ({
        id,
        nodes: nodes.map(({ html, failureSummary }) => html.slice(0, 200) + ' ' + failureSummary),
      })),
    }))`,
  );
  assert.equal(exceptionDetails, undefined);
  assert.ok(result.value.checks > 10, 'the checks ran');
  assert.deepEqual(result.value.violations, [], where);
  await devtools.detach();
}

for (const colorScheme of ['light', 'dark']) {
  e2e(`axe finds nothing wrong in the ${colorScheme} theme`, async (stage) => {
    const tab = await stage.open({ colorScheme, reducedMotion: 'reduce' });
    await tab.page.locator('button.card').first().waitFor();
    await assertAccessible(tab, 'agents');
    await stage.shot(tab, `09-${colorScheme}-agents`);

    await tab.startChat('Writer');
    await tab.ask('/lorem 150');
    await tab.answer.locator('.hljs-keyword').first().waitFor();
    await tab.ask('/fail auth');
    await tab.ask('/tool clock {"zone":"utc"}');
    await tab.say('/count 5000 20');
    await tab.counted(5);
    await tab.say('and then');
    await tab.text('1 waiting').waitFor();
    await assertAccessible(tab, 'a chat, while it is answered');
    await stage.shot(tab, `09-${colorScheme}-chat`);
    await tab.button('Stop and clear').click();
    await tab.idle();
    await tab.viewport.evaluate((viewport) => (viewport.scrollTop = 0));
    await stage.shot(tab, `09-${colorScheme}-code`);
    await assertAccessible(tab, 'the top of a chat');

    await tab.page.locator('.title-menu').click();
    await tab.page.getByRole('menuitem').first().waitFor();
    await assertAccessible(tab, 'a menu');
    await stage.shot(tab, `09-${colorScheme}-menu`);
    await tab.page.getByRole('menuitem', { name: 'Close' }).click();
    await tab.button('Close chat').waitFor();
    await assertAccessible(tab, 'a question');
    await stage.shot(tab, `09-${colorScheme}-question`);
    await tab.button('Close chat').click();
    await tab.text('This chat is closed').waitFor();
    await assertAccessible(tab, 'a closed chat');

    await tab.page.getByRole('searchbox').fill('and then');
    await tab.page.locator('mark').first().waitFor();
    await assertAccessible(tab, 'what was found in messages');
    await stage.shot(tab, `09-${colorScheme}-hits`);
    await tab.page.getByRole('searchbox').fill('');
    await tab.chooseAction('Delete');
    await tab.button('Undo').waitFor();
    await assertAccessible(tab, 'a deleted chat');
    await stage.shot(tab, `09-${colorScheme}-undo`);
    await tab.button('Undo').click();
    await tab.ready();

    tab.losesConnections = true;
    await stage.server.kill();
    await tab.connectionDialog.waitFor();
    await assertAccessible(tab, 'an outage');
    await stage.shot(tab, `09-${colorScheme}-outage`);
  });
}

for (const colorScheme of ['light', 'dark']) {
  e2e(`axe finds nothing wrong in what agents do, in the ${colorScheme} theme`, async (stage) => {
    const tab = await stage.open({ colorScheme, reducedMotion: 'reduce' });
    await tab.startChat('Clerk');
    await tab.say('/tool clock {"timezone":"UTC"}');
    const form = tab.page.getByRole('form', { name: 'Approval of clock' });
    await form.waitFor();
    await assertAccessible(tab, 'a question whether a tool may be called');
    await stage.shot(tab, `09-${colorScheme}-approval`);
    await form.getByRole('button', { name: 'Edit…' }).click();
    await form.getByRole('textbox').fill('{');
    await form.getByRole('button', { name: 'Approve with these' }).click();
    await form.getByText('This is not JSON').waitFor();
    await assertAccessible(tab, 'arguments that are wrong');
    await form.getByRole('textbox').fill('{"timezone":"Nowhere"}');
    await form.getByRole('button', { name: 'Approve with these' }).click();
    await tab.idle();
    await assertAccessible(tab, 'a call');
    await stage.shot(tab, `09-${colorScheme}-call`);

    await tab.page.getByRole('link', { name: 'New chat' }).click();
    await tab.startChat('Combat tracker');
    await tab.ask('/fight');
    await tab.ask('/condition Goblin prone');
    await tab.ask('/hit Goblin 6');
    await tab.button('Shared state').click();
    const panel = tab.page.getByRole('region', { name: 'Shared state' });
    await panel.getByText('1 / 7').waitFor();
    await panel.getByText('Everything in it').click();
    await assertAccessible(tab, 'a fight, and what may be said next');
    await stage.shot(tab, `09-${colorScheme}-fight`);

    await tab.page.getByRole('link', { name: 'Tasks' }).click();
    await tab.text('There are no tasks yet.').waitFor();
    await tab.button('New task').click();
    const fields = tab.page.getByRole('form', { name: 'New task' });
    await fields.getByLabel('Agent').selectOption({ label: 'Worker' });
    await fields.getByLabel('Name').fill('Sort the post');
    await fields.getByLabel('What is to be done').fill('/steps 15 1000');
    await assertAccessible(tab, 'a task that is being made');
    await fields.getByRole('button', { name: 'Create' }).click();
    await tab.page.getByRole('progressbar').waitFor();
    await assertAccessible(tab, 'a task');
    await stage.shot(tab, `09-${colorScheme}-tasks`);
    await tab.page.getByRole('link', { name: 'Sort the post' }).click();
    await tab.page.locator('.task-bar').waitFor();
    await assertAccessible(tab, 'the chat of a task');
    await stage.shot(tab, `09-${colorScheme}-task`);
  });
}

e2e('the accessibility tree has a name for everything', async (stage) => {
  const tab = await stage.open();
  await tab.startChat('Helper');
  await tab.say('/count 5000 20');
  await tab.counted(5);
  const devtools = await tab.page.context().newCDPSession(tab.page);

  const { nodes } = await devtools.send('Accessibility.getFullAXTree');

  const seen = nodes
    .filter(({ ignored }) => !ignored)
    .map(({ role, name }) => `${role?.value}: ${name?.value ?? ''}`);
  for (const expected of [
    'navigation: Chats',
    'main: ',
    'log: Messages',
    'form: Message',
    'textbox: Message Helper',
    'searchbox: Search chats and messages',
    'button: Send',
    'button: Stop',
    'link: Tasks',
    'button: Hide chats',
    'button: Keyboard shortcuts',
    'button: Actions for /count 5000 20',
    'link: New chat',
    'article: Helper',
    'article: You',
    'region: Today',
  ]) {
    assert.ok(seen.includes(expected), `${expected}\n${seen.join('\n')}`);
  }
  const named = /^(?:button|link|textbox|searchbox|img|image|dialog|menuitem|meter): $/;
  assert.deepEqual(
    seen.filter((node) => named.test(node)),
    [],
  );
  await tab.stop.click();
  await tab.idle();
});

/** Keeps what is said aloud. */
function listen(tab) {
  return tab.page.evaluate(() => {
    const said = [];
    Object.assign(globalThis, { said });
    for (const region of document.querySelectorAll('[role=status], [role=alert]')) {
      const tell = () => said.push(`${region.getAttribute('role')}: ${region.textContent}`);
      new MutationObserver(tell).observe(region, {
        childList: true,
        characterData: true,
        subtree: true,
      });
    }
  });
}

function heardIn(tab) {
  return tab.page.evaluate(() => globalThis.said.filter((text) => !text.endsWith(': ')));
}

e2e('that an agent needs somebody is said once, and no time that is left', async (stage) => {
  const tab = await stage.open();
  await tab.startChat('Clerk');
  await listen(tab);
  await tab.say('/tool clock {}');
  const form = tab.page.getByRole('form', { name: 'Approval of clock' });
  await form.waitFor();
  const words = await form
    .locator('.tool-time')
    .evaluate((left) => left.closest('[aria-live]')?.ariaLive);
  assert.equal(words, 'off');
  await form.getByRole('button', { name: 'Approve' }).click();
  await tab.idle();
  await tab.drawn();
  const heard = await heardIn(tab);
  // That it answers is left out where it asks at once.
  assert.deepEqual(heard.filter((text) => !text.endsWith('is answering')).slice(0, -1), [
    'status: Clerk needs your approval to call clock',
  ]);
  assert.match(heard.at(-1), /^status: clock says/);
});

e2e('what happens is said once, and never word by word', async (stage) => {
  const tab = await stage.open();
  await tab.startChat('Helper');
  await listen(tab);
  await tab.ask('/count 30 20');
  await tab.drawn();
  const heard = () => heardIn(tab);
  const numbers = Array.from({ length: 30 }, (_, index) => index + 1).join(' ');
  assert.deepEqual(await heard(), ['status: Helper is answering', `status: ${numbers}`]);

  await tab.ask('/fail auth');
  await tab.drawn();
  assert.match((await heard()).at(-1), /^alert: Failed: /);
  assert.equal(await tab.viewport.getAttribute('aria-live'), 'off');
});
