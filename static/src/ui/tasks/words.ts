/** Tasks in words. */

import type { Task, TaskStatus } from '../../client/wire.gen';
import { duration } from '../time';

export const STATUSES: readonly TaskStatus[] = [
  'pending',
  'running',
  'paused',
  'completed',
  'failed',
  'cancelled',
];

type Shown = Pick<Task, 'status' | 'pausing' | 'waiting_approval'>;

export function statusWord({ status, pausing, waiting_approval: asks }: Shown): string {
  if (status === 'running' && asks) return 'Needs approval';
  if (status === 'running' && pausing) return 'Pausing…';
  return STATUS_WORDS[status];
}

export const STATUS_WORDS: Record<TaskStatus, string> = {
  pending: 'Waiting',
  running: 'Running',
  paused: 'Paused',
  completed: 'Completed',
  failed: 'Failed',
  cancelled: 'Cancelled',
};

export function hasEnded({ status }: Pick<Task, 'status'>): boolean {
  return status === 'completed' || status === 'failed' || status === 'cancelled';
}

/** From its start to its end; while it goes on, until now, in whole seconds. */
export function tookText({ started_at: start, ended_at: end }: Task, now: number): string {
  if (start === null) return '';
  if (end !== null) return duration(Math.max(0, Date.parse(end) - Date.parse(start)));
  // Clocks differ.
  const seconds = Math.max(0, Math.floor((now - Date.parse(start)) / 1_000));
  return seconds < 60 ? `${seconds} s` : duration(seconds * 1_000);
}

export function percent(part: number): string {
  return `${Math.round(part * 100)} %`;
}
