/** Tasks over REST: where they are made, found and steered. What becomes of them comes over the socket. */

import type { Outcome } from '../../client/replies';
import type {
  CreateTaskData,
  Refusal,
  RenameTaskData,
  Task,
  TaskList,
  TaskStatus,
} from '../../client/wire.gen';

/** Relative to the page, which may be served below a path. */
const TASKS = 'api/v1/tasks';

export interface TaskQuery {
  status?: TaskStatus | undefined;
  q?: string | undefined;
  cursor?: string | undefined;
}

export const PAGE = 50;

export function listTasks({ status, q, cursor }: TaskQuery): Promise<Outcome<TaskList>> {
  const query = new URLSearchParams({
    limit: String(PAGE),
    ...(status && { status }),
    ...(q && { q }),
    ...(cursor && { cursor }),
  });
  return ask('GET', `${TASKS}?${query}`);
}

export function getTask(id: string): Promise<Outcome<Task>> {
  return ask('GET', path(id));
}

export function createTask(task: CreateTaskData): Promise<Outcome<Task>> {
  return ask('POST', TASKS, task);
}

export type Steering = 'pause' | 'resume' | 'cancel';

export function steerTask(id: string, action: Steering): Promise<Outcome<Task>> {
  return ask('POST', `${path(id)}/${action}`);
}

export function renameTask(id: string, name: string): Promise<Outcome<Task>> {
  const data: RenameTaskData = { name };
  return ask('PATCH', path(id), data);
}

export function deleteTask(id: string): Promise<Outcome<undefined>> {
  return ask('DELETE', path(id));
}

export type Format = 'json' | 'csv' | 'markdown';

/** Where one task, or all of them, can be had as a file. */
export function exportOf(format: Format, id?: string): string {
  return `${id === undefined ? TASKS : path(id)}/export/${format}`;
}

function path(id: string): string {
  return `${TASKS}/${encodeURIComponent(id)}`;
}

async function ask<T>(method: string, address: string, body?: object): Promise<Outcome<T>> {
  try {
    const response = await fetch(address, {
      method,
      ...(body && {
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      }),
    });
    const data = response.status === 204 ? undefined : ((await response.json()) as unknown);
    if (response.ok) return { ok: true, data: data as T };
    return { ok: false, error: refusalOf(data, response.status) };
  } catch {
    // There is no connection, or what came is not what this server says.
    return { ok: false, error: NOT_REACHED };
  }
}

const NOT_REACHED: Refusal = {
  code: 'unavailable',
  message: 'The server could not be reached.',
  details: {},
  retryable: true,
};

/** A problem as of RFC 9457. */
interface Problem {
  title?: string;
  detail?: string;
  code?: string;
  details?: Record<string, unknown>;
}

function refusalOf(data: unknown, status: number): Refusal {
  const { code = 'internal', detail, title, details = {} } = (data ?? {}) as Problem;
  const message = detail ?? title ?? `The server answered with ${status}.`;
  return { code, message, details, retryable: status >= 500 };
}
