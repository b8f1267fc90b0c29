/** One task in the list. */

import { useSignal } from '@preact/signals';
import { useLayoutEffect, useRef } from 'preact/hooks';
import type { Task } from '../../client/wire.gen';
import { Icon } from '../Icon';
import { Menu } from '../Menu';
import { NameField } from '../NameField';
import { agentName } from '../names';
import { sessionHash } from '../route';
import { useSelect } from '../store';
import { SteeringButtons } from './SteeringButtons';
import { TaskState } from './TaskState';
import { useTaskActions } from './useTaskActions';

export function TaskRow({ task }: { task: Task }) {
  const { name, agent_id: agentId, session_id: sessionId } = task;
  const agent = useSelect((state) => agentName(state, agentId), agentId);
  const renaming = useSignal(false);
  const link = useRef<HTMLAnchorElement>(null);
  const actions = useTaskActions(task, () => (renaming.value = true));
  const row = useRef<HTMLLIElement>(null);
  useLayoutEffect(
    () => () => {
      if (!row.current?.contains(document.activeElement)) return;
      document.querySelector<HTMLElement>('main')?.focus();
    },
    [],
  );
  const renamed = () => {
    renaming.value = false;
    requestAnimationFrame(() => link.current?.focus());
  };
  return (
    <li ref={row} class="task">
      <div class="task-head">
        {renaming.value ? (
          <NameField
            label="Name of the task"
            name={name}
            onSave={actions.rename}
            onDone={renamed}
          />
        ) : (
          <h2>
            <a ref={link} href={sessionHash(sessionId)} dir="auto">
              {name}
            </a>
            <span class="task-agent">{agent}</span>
          </h2>
        )}
        <SteeringButtons name={name} steering={actions.steering} />
        <Menu className="icon-button" label={`Actions for ${name}`} items={actions.items}>
          <Icon name="more" />
        </Menu>
      </div>
      <TaskState task={task} />
      {actions.dialog}
    </li>
  );
}
