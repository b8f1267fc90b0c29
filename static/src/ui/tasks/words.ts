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

export function statusWord({ status, pausing }: Pick<Task, 'status' | 'pausing'>): string {
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

/** From its start to its end, or until now. */
export function tookText({ started_at: start, ended_at: end }: Task, now: number): string {
  if (start === null) return '';
  const ms = (end === null ? now : Date.parse(end)) - Date.parse(start);
  // Clocks differ, and a list is no stop-watch.
  return duration(Math.max(0, end === null ? Math.floor(ms / 1_000) * 1_000 : ms));
}

export function percent(part: number): string {
  return `${Math.round(part * 100)} %`;
}
