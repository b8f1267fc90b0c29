import { describe, expect, it } from 'vitest';
import { fold } from '../../src/client/fold';
import { listedSessions, type PageArrived } from '../../src/client/sessions';
import { initialState, type State } from '../../src/client/state';
import type { ServerFrame } from '../../src/client/wire';
import type { ListChange, Session } from '../../src/client/wire.gen';
import { session } from './helpers';

function at(minute: number, id = `helper_${100 + minute}`, more: Partial<Session> = {}): Session {
  const time = `2026-11-21T10:${String(minute).padStart(2, '0')}:00.000Z`;
  return session({ session_id: id, updated_at: time, ...more });
}

function arrive(state: State, sessions: Session[], more: Partial<PageArrived> = {}): State {
  return fold(state, {
    kind: 'list_arrived',
    page: { sessions, next_cursor: null },
    query: '',
    next: false,
    known: new Set(state.sessions.keys()),
    ...more,
  });
}

function change(state: State, data: ListChange): State {
  const frame = { v: 1, type: 'session_list_changed', message_id: 'x', timestamp: '', data };
  return fold(state, { kind: 'frame', frame: frame as ServerFrame });
}

const shown = (state: State) => listedSessions(state).map((record) => record.session_id);

describe('the list', () => {
  it('has the newest first, and then goes by id', () => {
    const state = arrive(initialState(0), [at(1), at(3), at(2, 'b_1'), at(2, 'a_1')]);
    expect(shown(state)).toEqual(['helper_103', 'a_1', 'b_1', 'helper_101']);
    expect(state.list.phase).toBe('ready');
  });

  it('goes on with the next page', () => {
    const first = arrive(initialState(0), [at(3)], {
      page: { sessions: [at(3)], next_cursor: 'more' },
    });
    expect(first.list.cursor).toBe('more');
    const second = arrive(first, [at(1)], { next: true });
    expect(shown(second)).toEqual(['helper_103', 'helper_101']);
    expect(second.list.cursor).toBeUndefined();
  });

  it('forgets what the server no longer has', () => {
    const state = arrive(initialState(0), [at(1), at(2), at(3)]);
    expect(shown(arrive(state, [at(3)]))).toEqual(['helper_103']);
  });

  it('forgets nothing that the page does not reach, or that came after it was asked for', () => {
    const state = arrive(initialState(0), [at(1), at(3)]);
    const page = { sessions: [at(3)], next_cursor: 'more' };
    expect(shown(arrive(state, [], { page }))).toEqual(['helper_103', 'helper_101']);
    const known = new Set(state.sessions.keys());
    const created = change(state, at(9));
    expect(shown(arrive(created, [at(3)], { known }))).toEqual(['helper_109', 'helper_103']);
  });

  it('shows what a query found, and not the answer to an older one', () => {
    const all = arrive(initialState(0), [at(1), at(2), at(3)]);
    const asked = fold(all, { kind: 'list_asked', query: 'trip' });
    expect(arrive(asked, [at(1)], { query: 'tri' })).toBe(asked);
    const found = arrive(asked, [at(2)], { query: 'trip' });
    expect(shown(found)).toEqual(['helper_102']);
    const back = arrive(fold(found, { kind: 'list_asked', query: '' }), [at(1), at(2), at(3)]);
    expect(shown(back)).toHaveLength(3);
  });

  it('tells when it could not be had', () => {
    const asked = fold(initialState(0), { kind: 'list_asked', query: 'x' });
    expect(fold(asked, { kind: 'list_failed', query: '' })).toBe(asked);
    expect(fold(asked, { kind: 'list_failed', query: 'x' }).list.phase).toBe('failed');
  });
});

describe('changes', () => {
  it('add, update and remove', () => {
    let state = change(initialState(0), at(1));
    state = change(state, at(2, 'helper_101', { title: 'Trip plan', head: 4 }));
    expect(listedSessions(state)).toMatchObject([{ title: 'Trip plan' }]);
    state = change(state, { session_id: 'helper_101', removed: true });
    expect(shown(state)).toEqual([]);
  });

  it('are not undone by a page that is older', () => {
    const state = change(initialState(0), at(2, 'helper_101', { title: 'new', head: 9 }));
    const after = arrive(state, [at(1, 'helper_101', { title: 'old', head: 5 })]);
    expect(listedSessions(after)).toMatchObject([{ title: 'new' }]);
    // Another epoch is another log, and its numbers say nothing.
    const anew = at(1, 'helper_101', { title: 'anew', head: 1, epoch: 'e2' });
    expect(listedSessions(arrive(state, [anew]))).toMatchObject([{ title: 'anew' }]);
  });
});

describe('the unread mark', () => {
  const known = arrive(initialState(0), [at(1, 'helper_101', { head: 5 })]);
  const answered = at(2, 'helper_101', { head: 9 });

  it('comes with an answer, and goes when the session is opened', () => {
    const running = change(known, at(2, 'helper_101', { head: 7, status: 'running' }));
    expect(running.unread.size).toBe(0);
    const done = change(running, answered);
    expect([...done.unread]).toEqual(['helper_101']);
    expect(fold(done, { kind: 'opened', sessionId: 'helper_101' }).unread.size).toBe(0);
  });

  it('does not come for a new name, nor for what is looked at', () => {
    const renamed = change(known, at(2, 'helper_101', { head: 6, title: 'x' }));
    expect(renamed.unread.size).toBe(0);
    const open = fold(known, { kind: 'opened', sessionId: 'helper_101' });
    expect(change(open, answered).unread.size).toBe(0);
  });
});
