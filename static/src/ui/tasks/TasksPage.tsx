/** Tasks: what agents do in the background, each in a chat of its own. */

import { useSignal } from '@preact/signals';
import { useRef } from 'preact/hooks';
import { Icon } from '../Icon';
import { Menu } from '../Menu';
import { NewTaskForm } from './NewTaskForm';
import { TaskRow } from './TaskRow';
import { exportItems } from './useTaskActions';
import { useTaskList, type Filter } from './useTaskList';
import { STATUS_WORDS, STATUSES } from './words';

/** How long typing must pause before it is searched for. */
const SEARCH_MS = 200;

export function TasksPage() {
  const filter = useSignal<Filter>({ status: undefined, q: '' });
  const making = useSignal(false);
  const newTask = useRef<HTMLButtonElement>(null);
  const list = useTaskList(filter.value);
  const { tasks, phase } = list;
  const made = () => {
    newTask.current?.focus();
    making.value = false;
  };
  const isFiltered = filter.value.status !== undefined || filter.value.q !== '';

  return (
    <section class="page tasks" aria-labelledby="tasks-heading">
      <div class="page-head">
        <h1 id="tasks-heading">Tasks</h1>
        <button
          ref={newTask}
          type="button"
          class="button primary"
          aria-expanded={making.value}
          onClick={() => (making.value = !making.value)}
        >
          <Icon name="plus" />
          New task
        </button>
        <Menu className="icon-button" label="Export all tasks" items={exportItems()}>
          <Icon name="download" />
        </Menu>
      </div>
      {making.value && <NewTaskForm onDone={made} />}
      <Filters filter={filter.value} onChange={(to) => (filter.value = to)} />
      {tasks.length > 0 && (
        <ul class="task-list" aria-label="Tasks" aria-busy={phase === 'loading'}>
          {tasks.map((task) => (
            <TaskRow key={task.task_id} task={task} />
          ))}
        </ul>
      )}
      {phase === 'failed' && (
        <div class="notice is-error">
          <p>The tasks could not be loaded: {list.problem}</p>
          <button type="button" class="button" onClick={list.again}>
            Try again
          </button>
        </div>
      )}
      {tasks.length === 0 && phase === 'loading' && <p class="hint">Loading tasks…</p>}
      {tasks.length === 0 && phase === 'ready' && isFiltered && (
        <p class="hint">No task is like that.</p>
      )}
      {tasks.length === 0 && phase === 'ready' && !isFiltered && <NoTasks />}
      {list.hasMore && phase === 'ready' && (
        <button type="button" class="button more" onClick={list.more}>
          More
        </button>
      )}
    </section>
  );
}

function NoTasks() {
  return (
    <div class="notice">
      <p>
        <strong>There are no tasks yet.</strong> A task is something that an agent does by itself
        while you do something else. It goes on when this page is closed, says how far it is, and
        can be paused, resumed and cancelled. Its chat shows every step.
      </p>
    </div>
  );
}

interface FiltersProps {
  filter: Filter;
  onChange(filter: Filter): void;
}

function Filters({ filter, onChange }: FiltersProps) {
  const timer = useSignal<ReturnType<typeof setTimeout> | undefined>(undefined);
  return (
    <div class="task-filters">
      <label>
        <span>Status</span>
        <select
          value={filter.status ?? ''}
          onChange={({ currentTarget: { value } }) => {
            onChange({ ...filter, status: STATUSES.find((status) => status === value) });
          }}
        >
          <option value="">All</option>
          {STATUSES.map((status) => (
            <option key={status} value={status}>
              {STATUS_WORDS[status]}
            </option>
          ))}
        </select>
      </label>
      <label>
        <span>Name</span>
        <input
          type="search"
          autocomplete="off"
          defaultValue={filter.q}
          onInput={({ currentTarget: { value } }) => {
            clearTimeout(timer.value);
            timer.value = setTimeout(() => onChange({ ...filter, q: value.trim() }), SEARCH_MS);
          }}
        />
      </label>
    </div>
  );
}
