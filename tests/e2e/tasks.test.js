/** Tasks: what agents do in the background. Goes with issue 4. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { e2e } from './support/e2e.js';
import { until } from './support/until.js';

const row = (tab, name) => tab.page.locator('.task', { hasText: name });
const bar = (tab) => tab.page.getByRole('region', { name: 'Task', exact: true });
const progress = (place) => place.getByRole('progressbar').evaluate(({ value }) => value);

async function openTasks(stage, options) {
  const tab = await stage.open({ url: `${stage.server.url}#/tasks`, ...options });
  await tab.page.getByRole('heading', { name: 'Tasks' }).waitFor();
  return tab;
}

async function make(tab, name, input) {
  await tab.button('New task').click();
  const form = tab.page.getByRole('form', { name: 'New task' });
  await form.getByLabel('Agent').selectOption({ label: 'Worker' });
  await form.getByLabel('Name').fill(name);
  await form.getByLabel('What is to be done').fill(input);
  await form.getByRole('button', { name: 'Create' }).click();
  await row(tab, name).waitFor();
}

async function hasWord(place, word) {
  await place.locator('.task-word').filter({ hasText: word }).waitFor();
}

e2e('a task is made, paused, resumed, and runs to its end', async (stage) => {
  const tab = await openTasks(stage);
  await tab.text('There are no tasks yet.').waitFor();
  await stage.shot(tab, '24-empty');
  await tab.button('New task').click();
  await tab.page.getByRole('form', { name: 'New task' }).waitFor();
  await stage.shot(tab, '24-new');
  await tab.button('Back').click();
  await make(tab, 'Sort the post', '/steps 12 500');
  const task = row(tab, 'Sort the post');
  await hasWord(task, 'Running');
  await until('some progress', async () => (await progress(task).catch(() => 0)) > 0);
  await task.getByText('Confidence 90 %').waitFor();
  await stage.shot(tab, '24-running');

  await task.getByRole('button', { name: 'Pause' }).click();
  await hasWord(task, 'Paused');
  const reached = await progress(task);
  assert.ok(reached < 1);
  await tab.focusReaches(/^button Resume/);
  await stage.shot(tab, '24-paused');

  // As much is known to who comes later.
  const other = await stage.open({ url: `${stage.server.url}#/tasks` });
  await hasWord(row(other, 'Sort the post'), 'Paused');
  await task.getByRole('button', { name: 'Resume' }).click();
  for (const seen of [task, row(other, 'Sort the post')]) {
    await hasWord(seen, 'Running');
    await until('more progress', async () => (await progress(seen).catch(() => 1)) > reached);
  }
  await hasWord(task, 'Completed');
  await hasWord(row(other, 'Sort the post'), 'Completed');
  assert.equal(await task.locator('.task-buttons button').count(), 0);
  await stage.shot(tab, '24-completed');
});

e2e('the chat of a task shows how it stands, and steers it', async (stage) => {
  const tab = await openTasks(stage);
  await make(tab, 'Sort the post', '/steps 15 1000');
  await row(tab, 'Sort the post').getByRole('link', { name: 'Sort the post' }).click();
  await tab.ready();
  await hasWord(bar(tab), 'Running');
  await tab.page.locator('.tool', { hasText: 'report_progress' }).first().waitFor();
  // It belongs to the tasks, and not to the chats.
  assert.equal(await tab.page.locator('.session').count(), 0);
  await stage.shot(tab, '24-chat');
  await tab.page.reload();
  await tab.ready();
  await hasWord(bar(tab), 'Running');

  await bar(tab).getByRole('button', { name: 'Cancel' }).click();
  await tab.button('Cancel task').click();
  await hasWord(bar(tab), 'Cancelled');
  await tab.idle();
  await stage.shot(tab, '24-cancelled');

  await bar(tab)
    .getByRole('button', { name: /^Actions for the task/ })
    .click();
  await tab.page.getByRole('menuitem', { name: 'Rename' }).click();
  await tab.page.getByRole('textbox', { name: 'Name of the task' }).fill('Burn the post');
  await tab.page.keyboard.press('Enter');
  await tab.page.locator('.chat-head').getByText('Burn the post').first().waitFor();

  await bar(tab)
    .getByRole('button', { name: /^Actions for the task/ })
    .click();
  await tab.page.getByRole('menuitem', { name: 'Delete' }).click();
  await tab.button('Delete task').click();
  await tab.text('There are no tasks yet.').waitFor();
});

async function download(tab, open, format) {
  await open();
  const item = tab.page.getByRole('menuitem', { name: `Export as ${format}` });
  const [file] = await Promise.all([tab.page.waitForEvent('download'), item.click()]);
  return { name: file.suggestedFilename(), text: readFileSync(await file.path(), 'utf8') };
}

e2e('tasks are taken away as JSON, CSV and Markdown, one or all', async (stage) => {
  const tab = await openTasks(stage);
  await make(tab, 'First of two', '/echo one');
  await make(tab, 'Second of two', '/echo two');
  const first = row(tab, 'First of two');
  await hasWord(first, 'Completed');
  await hasWord(row(tab, 'Second of two'), 'Completed');

  const one = () => first.getByRole('button', { name: /^Actions for/ }).click();
  const all = () => tab.button('Export all tasks').click();
  for (const [format, extension] of [
    ['JSON', 'json'],
    ['CSV', 'csv'],
    ['Markdown', 'md'],
  ]) {
    const alone = await download(tab, one, format);
    assert.match(alone.name, new RegExp(`\\.${extension}$`));
    assert.ok(alone.text.includes('First of two') || format === 'CSV', alone.text);
    const together = await download(tab, all, format);
    assert.match(together.name, new RegExp(`\\.${extension}$`));
    assert.ok(together.text.includes('First of two') && together.text.includes('Second of two'));
  }
  await tab.page.getByRole('heading', { name: 'Tasks' }).waitFor();
});

e2e('tasks are found by how they stand, and by name', async (stage) => {
  const tab = await openTasks(stage);
  await make(tab, 'Quick', '/echo done');
  await make(tab, 'Slow', '/steps 15 2000');
  await make(tab, 'Broken', '/fail auth');
  await hasWord(row(tab, 'Quick'), 'Completed');
  await hasWord(row(tab, 'Broken'), 'Failed');
  await row(tab, 'Broken').locator('.task-message.is-error').waitFor();
  await stage.shot(tab, '24-several');

  const names = () => tab.page.locator('.task h2 a').allInnerTexts();
  const shows = (...expected) =>
    until(`${expected}`, async () => (await names()).join() === expected.join());
  await tab.page.getByLabel('Status').selectOption('completed');
  await shows('Quick');
  await tab.page.getByLabel('Status').selectOption('running');
  await shows('Slow');
  await tab.page.getByLabel('Status').selectOption('');
  await shows('Broken', 'Slow', 'Quick');
  await tab.page.getByLabel('Name').fill('qui');
  await shows('Quick');
  await tab.page.getByLabel('Name').fill('no such thing');
  await tab.text('No task is like that.').waitFor();
});
