// @vitest-environment happy-dom

import { describe, expect, it } from 'vitest';
import { initialState } from '../../src/client/state';
import { activityOf, isBusy } from '../../src/ui/busy';
import { sentence, sessionTitle } from '../../src/ui/names';
import { parseRoute, sessionHash } from '../../src/ui/route';
import { dayName } from '../../src/ui/time';
import { pendingMessage, SESSION, session, stateWith, syncedView } from './helpers';

describe('an address', () => {
  it.each([
    ['', { page: 'agents' }],
    ['#', { page: 'agents' }],
    ['#/', { page: 'agents' }],
    ['#/s/helper_417', { page: 'session', sessionId: 'helper_417' }],
    ['#/s/helper_417?at=12', { page: 'session', sessionId: 'helper_417', at: 12 }],
    ['#/s/helper_417?at=x&y', { page: 'session', sessionId: 'helper_417' }],
    ['#/s/a%20b', { page: 'session', sessionId: 'a b' }],
    ['#/s/', { page: 'unknown' }],
    ['#/s/a/b', { page: 'unknown' }],
    ['#/s/%', { page: 'unknown' }],
    ['#/tasks', { page: 'tasks' }],
    ['#/tasks/1', { page: 'unknown' }],
  ])('%j', (hash, route) => {
    expect(parseRoute(hash)).toEqual(route);
  });

  it('leads back to its session', () => {
    const route = parseRoute(sessionHash('a b/c'));
    expect(route).toEqual({ page: 'session', sessionId: 'a b/c' });
    const message = parseRoute(sessionHash('a?at=7', 12));
    expect(message).toEqual({ page: 'session', sessionId: 'a?at=7', at: 12 });
  });
});

describe('a day', () => {
  const now = new Date(2026, 10, 21, 0, 5);

  it('has its name as seen from today', () => {
    expect(dayName(new Date(2026, 10, 21, 0, 1), now)).toBe('Today');
    expect(dayName(new Date(2026, 10, 20, 23, 59), now)).toBe('Yesterday');
    expect(dayName(new Date(2026, 10, 16), now)).toContain('16');
    expect(dayName(new Date(2025, 10, 16), now)).toContain('2025');
    // Clocks differ: what is ahead of ours is of today.
    expect(dayName(new Date(2026, 10, 22), now)).toBe('Today');
  });
});

describe('a chat', () => {
  const agent = { id: 'helper', name: 'Helper', description: '', model: '', context_window: 1 };

  it('is called by its title, or by its agent and number', () => {
    const state = { ...initialState(0), sessions: new Map([[SESSION, session()]]) };
    expect(sessionTitle(state, SESSION)).toBe('Helper 417');
    expect(sessionTitle({ ...state, agents: [{ ...agent, name: 'Max' }] }, SESSION)).toBe(
      'Max 417',
    );
    const named = new Map([[SESSION, session({ title: 'Trip plan' })]]);
    expect(sessionTitle({ ...state, sessions: named }, SESSION)).toBe('Trip plan');
    expect(sessionTitle(initialState(0), 'trip-planner_9000')).toBe('Trip-planner 9000');
  });

  it('is busy from the sending of a message to the end of its run', () => {
    const idle = stateWith(syncedView(3));
    expect(isBusy(idle, SESSION)).toBe(false);
    expect(isBusy({ ...idle, pending: [pendingMessage('c1')] }, SESSION)).toBe(true);
    const refused = pendingMessage('c1', { state: 'refused' });
    expect(isBusy({ ...idle, pending: [refused] }, SESSION)).toBe(false);
    const running = stateWith(syncedView(3, { run: { id: 'r1', status: 'thinking' } }));
    expect(isBusy(running, SESSION)).toBe(true);
    expect(activityOf(running, SESSION)).toBe('thinking');
    expect(isBusy(stateWith(syncedView(3, { queue: ['r2'] })), SESSION)).toBe(true);
  });

  it('that is not followed is as the list says', () => {
    const sessions = new Map([[SESSION, session({ status: 'running' })]]);
    expect(activityOf({ ...initialState(0), sessions }, SESSION)).toBe('working');
    expect(activityOf({ ...stateWith(syncedView(3)), sessions }, SESSION)).toBeUndefined();
  });
});

it('makes sentences of messages', () => {
  expect(sentence('the key is missing')).toBe('The key is missing.');
  expect(sentence('Try again!')).toBe('Try again!');
});
