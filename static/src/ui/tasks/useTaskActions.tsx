/** What can be done with a task, from the list and from its chat. */

import { useSignal } from '@preact/signals';
import type { JSX } from 'preact';
import type { Outcome } from '../../client/replies';
import type { Task } from '../../client/wire.gen';
import { ConfirmDialog } from '../Confirm';
import type { MenuItem } from '../Menu';
import { sentence } from '../names';
import { announce, warn } from '../notices';
import { goTo, route, TASKS } from '../route';
import { useStore } from '../store';
import { deleteTask, exportOf, renameTask, steerTask, type Format, type Steering } from './api';
import { hasEnded } from './words';

interface TaskActions {
  /** What steers it now, in the order of the buttons. */
  steering: readonly { label: string; does(): void }[];
  items: MenuItem[];
  rename(name: string): void;
  /** The question that is being asked, if one is. */
  dialog: JSX.Element | undefined;
}

export function useTaskActions(task: Task, startRenaming: () => void): TaskActions {
  const { client } = useStore();
  const asking = useSignal<'cancel' | 'delete' | undefined>(undefined);
  const { task_id: id, name, status, pausing } = task;

  const take = (attempt: string, outcome: Outcome<Task>): boolean => {
    if (outcome.ok) client.takeTasks({ tasks: [outcome.data] });
    else warn(`Could not ${attempt}: ${sentence(outcome.error.message)}`);
    return outcome.ok;
  };
  const steer = async (action: Steering, done: string) => {
    if (take(`${action} the task`, await steerTask(id, action))) announce(done);
  };
  const remove = async () => {
    const outcome = await deleteTask(id);
    if (!outcome.ok) return warn(`Could not delete the task: ${sentence(outcome.error.message)}`);
    announce(`Deleted the task “${name}”`);
    const shown = route.peek();
    if (shown.page === 'session' && shown.sessionId === task.session_id) goTo(TASKS);
  };
  const rename = (to: string) =>
    void renameTask(id, to).then((outcome) => take('rename the task', outcome));

  const questions = {
    cancel: (
      <ConfirmDialog
        question={`Cancel “${name}”?`}
        explanation="It stops where it is, and does not go on again. What it has said so far stays."
        confirm="Cancel task"
        onConfirm={() => void steer('cancel', 'Cancelled')}
        onClose={() => (asking.value = undefined)}
      />
    ),
    delete: (
      <ConfirmDialog
        question={`Delete “${name}”?`}
        explanation="Its chat goes with it. This cannot be taken back."
        confirm="Delete task"
        onConfirm={() => void remove()}
        onClose={() => (asking.value = undefined)}
      />
    ),
  };

  const isActive = status === 'pending' || status === 'running';
  return {
    steering: [
      ...(isActive && !pausing
        ? [{ label: 'Pause', does: () => void steer('pause', 'Pausing') }]
        : []),
      ...(status === 'paused' || pausing
        ? [{ label: 'Resume', does: () => void steer('resume', 'Resumed') }]
        : []),
      ...(hasEnded(task) ? [] : [{ label: 'Cancel', does: () => (asking.value = 'cancel') }]),
    ],
    items: [
      { label: 'Rename', icon: 'pencil', does: startRenaming },
      ...exportItems(id),
      {
        label: 'Delete',
        icon: 'trash',
        isDangerous: true,
        does: () => (asking.value = 'delete'),
      },
    ],
    rename,
    dialog: asking.value && questions[asking.value],
  };
}

const FORMATS: readonly [Format, string][] = [
  ['json', 'JSON'],
  ['csv', 'CSV'],
  ['markdown', 'Markdown'],
];

/** Files of one task, or of all. */
export function exportItems(id?: string): MenuItem[] {
  return FORMATS.map(([format, name]) => ({
    label: `Export as ${name}`,
    icon: 'download',
    does: { file: exportOf(format, id) },
  }));
}
