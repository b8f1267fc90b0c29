/** What agents do beside talking, folded: calls, approvals, the shared document, suggestions. */

import { describe, expect, it } from 'vitest';
import { addEvents, awaitsApproval, type ToolItem } from '../../src/client/items';
import type { View } from '../../src/client/state';
import { foldEvent, foldSnapshot } from '../../src/client/view';
import type { EventEnvelope, PatchOperation } from '../../src/client/wire.gen';
import {
  answer,
  event,
  runFinished,
  runStarted,
  snapshot,
  syncedView,
  userMessage,
} from './helpers';

const EXPIRES = '2026-11-21T10:10:00.000Z';

interface Of {
  id?: string;
  run?: string;
}

function start(seq: number, { id = 't1', run = 'r1' }: Of = {}) {
  const data = { message_id: 's1', tool_call_id: id, tool_name: 'clock', args: { zone: 'utc' } };
  return event('tool_call.start', data, { seq, run });
}

function end(seq: number, result: unknown, { id = 't1', run = 'r1' }: Of = {}) {
  const call = { message_id: 's1', tool_call_id: id, tool_name: 'clock' };
  return event('tool_call.end', { ...call, result, duration_ms: 12 }, { seq, run });
}

function asked(seq: number, { id = 't1', run = 'r1' }: Of = {}) {
  const data = { tool_call_id: id, tool_name: 'clock', expires_at: EXPIRES };
  return event('approval_requested', data, { seq, run });
}

function settled(seq: number, { id = 't1', run = 'r1' }: Of = {}, decision = 'approved' as const) {
  return event('approval_resolved', { tool_call_id: id, decision, by: 'local' }, { seq, run });
}

function foldAll(view: View, events: EventEnvelope[]): View {
  return events.reduce(foldEvent, view);
}

const running = () =>
  foldAll(syncedView(3), [userMessage(4, 'Hi', { run: 'r1' }), runStarted(5, 'r1')]);
const calls = ({ items }: Pick<View, 'items'>) =>
  items.filter((item): item is ToolItem => item.kind === 'tool');
const waiting = (view: View) => calls(view).filter((item) => awaitsApproval(item, view.run?.id));

describe('a call', () => {
  it('is one item from its beginning to its end', () => {
    const view = foldAll(running(), [start(6), asked(7), settled(8), end(9, 'noon')]);
    expect(calls(view)).toMatchObject([
      {
        seq: 6,
        name: 'clock',
        args: { zone: 'utc' },
        approval: { expiresAt: EXPIRES, settled: { decision: 'approved', by: 'local' } },
        outcome: { result: 'noon', durationMs: 12 },
      },
    ]);
  });

  it('keeps its key, so that its card stays the same', () => {
    const begun = foldAll(running(), [start(6)]);
    const ended = foldAll(begun, [end(7, 1)]);
    expect(calls(ended)[0]?.key).toBe(calls(begun)[0]?.key);
  });

  it('stands where it began, though its beginning comes after its end', () => {
    const newer = [userMessage(8, 'while'), settled(9), end(10, 'noon')];
    const older = [userMessage(5, 'Hi', { run: 'r1' }), start(6), asked(7)];
    const items = addEvents(addEvents([], newer), older);
    expect(items.map((item) => item.seq)).toEqual([5, 6, 8]);
    expect(calls({ items })).toMatchObject([
      { args: { zone: 'utc' }, outcome: { result: 'noon' }, approval: { expiresAt: EXPIRES } },
    ]);
  });

  it('is not doubled by pages that overlap', () => {
    const all = [start(6), asked(7), settled(8), end(9, 'noon')];
    const items = addEvents(addEvents([], all.slice(2)), all);
    expect(addEvents(items, all)).toEqual(items);
    expect(items).toHaveLength(1);
  });

  it('is told from others of the same name, in its step, in its run, and in others', () => {
    const view = foldAll(running(), [
      start(6),
      start(7),
      asked(8),
      asked(9),
      settled(10),
      end(11, 'one'),
      settled(12),
      end(13, 'two'),
      answer(14, 's1', 'Well', { run: 'r1' }),
      start(15),
      end(16, 'three'),
      runFinished(17, 'r1'),
      runStarted(18, 'r2'),
      start(19, { run: 'r2' }),
    ]);
    expect(calls(view).map(({ seq, outcome }) => [seq, outcome?.result])).toEqual([
      [6, 'one'],
      [7, 'two'],
      [15, 'three'],
      [19, undefined],
    ]);
    expect(calls(view).every(({ name, args }) => name === 'clock' && args !== undefined)).toBe(
      true,
    );
  });
});

describe('a question whether a tool may be called', () => {
  const asking = () => foldAll(running(), [start(6), asked(7)]);

  it('waits, and the run with it', () => {
    expect(waiting(asking())).toHaveLength(1);
    expect(asking().run?.status).toBe('waiting_approval');
  });

  it.each([
    ['an answer', [settled(8)]],
    ['the end of the call', [end(8, 'x')]],
    ['the end of the run', [runFinished(8, 'r1', 'cancelled', 'stopped')]],
  ])('waits no more after %s', (_, events) => {
    expect(waiting(foldAll(asking(), events))).toEqual([]);
  });

  it('of a run that is over is none, though another one goes on', () => {
    expect(waiting(foldAll(asking(), [runFinished(8, 'r1'), runStarted(9, 'r2')]))).toEqual([]);
  });

  it('goes on with the run once all are answered', () => {
    const both = foldAll(asking(), [start(8, { id: 't2' }), asked(9, { id: 't2' }), settled(10)]);
    expect(both.run?.status).toBe('waiting_approval');
    expect(waiting(both).map(({ callId }) => callId)).toEqual(['t2']);
    expect(foldAll(both, [settled(11, { id: 't2' })]).run?.status).toBe('calling_tool');
  });

  it('comes with a snapshot, also where its events are older than the snapshot reaches', () => {
    const approval = { run_id: 'r1', tool_call_id: 't1', tool_name: 'clock', expires_at: EXPIRES };
    const run = { run_id: 'r1', status: 'waiting_approval' } as const;
    const more = { head: 9, run, approvals: [approval] };
    const whole = foldSnapshot(
      syncedView(3),
      snapshot({ ...more, messages: [start(6), asked(7)] }),
    );
    expect(waiting(whole)).toMatchObject([{ seq: 6, args: { zone: 'utc' } }]);
    expect(whole.run?.status).toBe('waiting_approval');

    const cut = foldSnapshot(syncedView(3), snapshot({ ...more, truncated: true }));
    expect(waiting(cut)).toMatchObject([{ name: 'clock', approval: { expiresAt: EXPIRES } }]);
    const items = addEvents(cut.items, [start(6), asked(7)]);
    expect(calls({ items })).toHaveLength(1);
    expect(waiting(foldAll({ ...cut, items }, [settled(10)]))).toEqual([]);
  });
});

describe('the shared document', () => {
  const patch = (seq: number, version: number, ...operations: PatchOperation[]) =>
    event('state.patch', { version, patch: operations }, { seq });
  const add = { op: 'add', path: '/hp', value: 7 } as const;
  const remove = { op: 'remove', path: '/gone' } as const;

  it('changes with its patches', () => {
    const view = foldAll(syncedView(3), [patch(4, 1, add), patch(5, 2, { ...add, value: 6 })]);
    expect(view.shared).toEqual({ version: 2, value: { hp: 6 } });
  });

  it.each([
    ['does not apply', patch(4, 1, add, remove)],
    ['is of a later version', patch(4, 3, add)],
    ['is of an earlier version', patch(4, 0, add)],
  ])('is asked for anew where a patch %s, and changes by none of it', (_, bad) => {
    const view = foldEvent(syncedView(3), bad);
    expect(view).toMatchObject({ awaiting: true, synced: false, resync: 2, seq: 3 });
    expect(view.shared).toEqual({ version: 0, value: {} });

    const state = { version: 5, value: { hp: 1 } };
    const again = foldSnapshot(view, snapshot({ head: 4, state }));
    expect(again.shared).toEqual(state);
    expect(foldEvent(again, patch(5, 6, { ...add, value: 2 })).shared.value).toEqual({ hp: 2 });
    // A snapshot that does not help once would not help twice.
    expect(foldEvent(again, patch(5, 9, add)).problem).toBeDefined();
  });
});

describe('suggestions', () => {
  const suggested = () =>
    foldAll(running(), [
      event('suggestions', { items: ['More', 'Less'] }, { seq: 6, run: 'r1' }),
      runFinished(7, 'r1'),
    ]);

  it('outlive the run that made them, until the next one begins', () => {
    expect(suggested().suggestions).toEqual(['More', 'Less']);
    expect(foldAll(suggested(), [runStarted(8, 'r2')]).suggestions).toEqual([]);
  });

  it('come with a snapshot', () => {
    const view = foldSnapshot(syncedView(3), snapshot({ suggestions: ['More'] }));
    expect(view.suggestions).toEqual(['More']);
  });
});

it('knows a session that was made for a task', () => {
  const created = { task_id: 'x', status: 'pending', name: 'Sort', input: 'it' } as const;
  expect(foldEvent(syncedView(3), event('task_created', created, { seq: 4 })).isTask).toBe(true);
  expect(foldSnapshot(syncedView(3), snapshot()).isTask).toBe(false);
});

it.each(['user_message', 'task', 'resumed'] as const)('begins a run for %s', (trigger) => {
  const view = foldEvent(syncedView(3), event('run_started', { trigger }, { seq: 4, run: 'r1' }));
  expect(view.run).toEqual({ id: 'r1', status: 'thinking' });
});
