/** The tasks that a filter lets through: asked for in pages, and kept up to date by what is heard of them. */

import { useEffect, useRef, useState } from 'preact/hooks';
import type { Task, TaskStatus } from '../../client/wire.gen';
import { useSelect, useStore } from '../store';
import { listTasks } from './api';

export interface Filter {
  status: TaskStatus | undefined;
  q: string;
}

interface Listed {
  tasks: readonly Task[];
  phase: 'loading' | 'ready' | 'failed';
  problem: string;
  hasMore: boolean;
  again(): void;
  more(): void;
}

export function useTaskList(filter: Filter): Listed {
  const { client } = useStore();
  const known = useSelect((state) => state.tasks);
  const ready = useSelect((state) => state.connection.phase === 'ready');
  const [phase, setPhase] = useState<Listed['phase']>('loading');
  const [problem, setProblem] = useState('');
  const [cursor, setCursor] = useState<string>();
  /** Counts the questions: an answer to any but the last is stale. */
  const asked = useRef(0);
  const { status, q } = filter;

  const load = async (from?: string) => {
    const question = ++asked.current;
    setPhase('loading');
    const before = client.state.tasks;
    const outcome = await listTasks({ status, q, cursor: from });
    if (question !== asked.current) return;
    if (!outcome.ok) {
      setProblem(outcome.error.message);
      return setPhase('failed');
    }
    const { tasks, next_cursor: next } = outcome.data;
    client.takeTasks(from === undefined ? { tasks, instead: before } : { tasks });
    setCursor(next ?? undefined);
    setPhase('ready');
  };
  useEffect(() => {
    if (ready) void load();
  }, [ready, status, q]);

  return {
    tasks: matching(known.values(), filter),
    phase,
    problem,
    hasMore: cursor !== undefined,
    again: () => void load(),
    more: () => void load(cursor),
  };
}

/** The newest first: what becomes of a task does not move it. */
export function matching(tasks: Iterable<Task>, { status, q }: Filter): Task[] {
  const wanted = q.toLowerCase();
  return [...tasks]
    .filter((task) => status === undefined || task.status === status)
    .filter((task) => task.name.toLowerCase().includes(wanted))
    .toSorted((one, other) => (one.created_at < other.created_at ? 1 : -1));
}
