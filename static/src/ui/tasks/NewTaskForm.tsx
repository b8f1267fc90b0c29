/** Makes a task: who is to do it, what it is called, and what is to be done. */

import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import type { CreateTaskData } from '../../client/wire.gen';
import { sentence } from '../names';
import { announce, sound } from '../notices';
import { useSelect, useStore } from '../store';
import { createTask } from './api';

const MAX_NAME = 200;

export function NewTaskForm({ onDone }: { onDone(): void }) {
  const { client } = useStore();
  const agents = useSelect((state) => state.agents) ?? [];
  const form = useRef<HTMLFormElement>(null);
  const problem = useSignal('');
  const isSending = useSignal(false);

  useEffect(() => form.current?.querySelector<HTMLElement>('[name=name]')?.focus(), []);

  const create = async () => {
    if (!form.current || isSending.value) return;
    const fields = new FormData(form.current);
    const text = (name: keyof CreateTaskData) => String(fields.get(name) ?? '').trim();
    isSending.value = true;
    const outcome = await createTask({
      agent_id: text('agent_id'),
      name: text('name'),
      input: text('input'),
    });
    isSending.value = false;
    if (!outcome.ok) {
      problem.value = sentence(outcome.error.message);
      return sound(problem.value);
    }
    client.takeTasks({ tasks: [outcome.data] });
    announce(`The task “${outcome.data.name}” is made`);
    onDone();
  };
  return (
    <form
      ref={form}
      class="new-task"
      aria-label="New task"
      onSubmit={(event) => {
        event.preventDefault();
        void create();
      }}
    >
      <label>
        <span>Agent</span>
        <select name="agent_id" required>
          {agents.map(({ id, name }) => (
            <option key={id} value={id}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <label>
        <span>Name</span>
        <input name="name" required maxLength={MAX_NAME} autocomplete="off" />
      </label>
      <label class="is-wide">
        <span>What is to be done</span>
        <textarea name="input" required rows={3} dir="auto" />
      </label>
      {problem.value && <p class="inline-problem">{problem.value}</p>}
      <div class="actions">
        <button type="button" class="button" onClick={onDone}>
          Back
        </button>
        <button type="submit" class="button primary" aria-disabled={isSending.value}>
          Create
        </button>
      </div>
    </form>
  );
}
