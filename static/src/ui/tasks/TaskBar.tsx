/** In the head of a task's chat: how the task stands, and what steers it. */

import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import type { Task } from '../../client/wire.gen';
import { Icon } from '../Icon';
import { Menu } from '../Menu';
import { NameField } from '../NameField';
import { sessionTitle } from '../names';
import { TASKS } from '../route';
import { useSelect, useStore } from '../store';
import { getTask } from './api';
import { SteeringButtons } from './SteeringButtons';
import { TaskState } from './TaskState';
import { useTaskActions } from './useTaskActions';

export function TaskBar({ sessionId }: { sessionId: string }) {
  const { client } = useStore();
  const task = useSelect((state) => state.tasks.get(sessionId), sessionId);
  const ready = useSelect((state) => state.connection.phase === 'ready');

  // What became of it while nobody listened is not told again.
  useEffect(() => {
    if (!ready) return;
    void getTask(sessionId).then((outcome) => {
      if (outcome.ok) client.takeTasks({ tasks: [outcome.data] });
    });
  }, [ready, sessionId]);

  return task ? <Bar task={task} /> : null;
}

function Bar({ task }: { task: Task }) {
  // Mostly, the chat is called as the task is.
  const title = useSelect((state) => sessionTitle(state, task.session_id), task.session_id);
  const renaming = useSignal(false);
  const bar = useRef<HTMLElement>(null);
  const actions = useTaskActions(task, () => (renaming.value = true));
  const renamed = () => {
    renaming.value = false;
    requestAnimationFrame(() => bar.current?.querySelector<HTMLElement>('.task-menu')?.focus());
  };
  return (
    <section ref={bar} class="task-bar" aria-label="Task">
      {renaming.value ? (
        <NameField
          label="Name of the task"
          name={task.name}
          onSave={actions.rename}
          onDone={renamed}
        />
      ) : (
        <p class="task-name">
          <a href={TASKS}>Task</a> {task.name !== title && <span dir="auto">{task.name}</span>}
        </p>
      )}
      <TaskState task={task} />
      <span class="bar-space" />
      <SteeringButtons name={task.name} steering={actions.steering} />
      <Menu
        className="icon-button task-menu"
        label={`Actions for the task ${task.name}`}
        items={actions.items}
      >
        <Icon name="more" />
      </Menu>
      {actions.dialog}
    </section>
  );
}
