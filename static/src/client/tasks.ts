/** Tasks, as they are heard of: in lists that are asked for, and when something has become of one. */

import type { State } from './state';
import type { Task } from './wire.gen';

export interface TasksArrived {
  tasks: readonly Task[];
  /** The tasks that were known when these were asked for, where these are all that there are to know. */
  instead?: State['tasks'];
}

/** Something has become of a task. */
export function foldTask(state: State, task: Task): State {
  const known = state.tasks.get(task.session_id);
  // Lists and events take two ways: what comes later may be older.
  if (known && known.updated_at > task.updated_at) return state;
  return { ...state, tasks: new Map(state.tasks).set(task.session_id, task) };
}

export function foldTasks(state: State, { tasks, instead }: TasksArrived): State {
  const kept = [...state.tasks].filter(([id, task]) => instead?.get(id) !== task);
  const present = tasks.filter(({ session_id: id }) => !state.deleted.has(id));
  return present.reduce(foldTask, instead ? { ...state, tasks: new Map(kept) } : state);
}
