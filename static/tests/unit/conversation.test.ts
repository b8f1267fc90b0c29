import { describe, expect, it } from 'vitest';
import { addEvents } from '../../src/client/items';
import type { Item, Streaming } from '../../src/client/state';
import { foldEvent } from '../../src/client/view';
import type { EventEnvelope } from '../../src/client/wire.gen';
import { conversationOf, endText, questionOf, withFork } from '../../src/ui/conversation';
import {
  answer,
  event,
  pendingMessage,
  runFinished,
  runStarted,
  syncedView,
  userMessage,
} from './helpers';

function read(events: EventEnvelope[], streams: string[] = [], pending = 0): string[] {
  const view = events.reduce(foldEvent, syncedView(0));
  const text: Streaming = { text: 'x', points: 1, runId: view.run?.id, at: '' };
  const entries = conversationOf(
    {
      items: view.items,
      queue: view.queue,
      runId: view.run?.id,
      streaming: new Map(streams.map((id) => [id, text])),
    },
    Array.from({ length: pending }, (_, index) => pendingMessage(`c${index}`)),
  );
  return entries.map((entry) => {
    if (entry.kind === 'item') return `${textOf(entry.item)}${entry.waits ? ' (waits)' : ''}`;
    return entry.kind === 'note' ? entry.text : `[${entry.kind}]`;
  });
}

function textOf(item: Item): string {
  return 'content' in item ? item.content : `[${item.kind}]`;
}

const first = [userMessage(1, 'one', { run: 'r1' }), runStarted(2, 'r1')];
const queued = userMessage(3, 'two', { run: 'r2', queued: true });

describe('the order of reading', () => {
  it('has a message that waits after the answer that it waits for', () => {
    expect(read([...first, queued], ['a1'], 1)).toEqual([
      'one',
      '[streaming]',
      'two (waits)',
      '[pending]',
    ]);
  });

  it('has it before its own answer, once it has begun', () => {
    const ended = [
      ...first,
      queued,
      answer(4, 'a1', 'to one', { run: 'r1' }),
      runFinished(5, 'r1'),
    ];
    expect(read(ended)).toEqual(['one', 'to one', 'two (waits)']);
    const begun = [...ended, runStarted(6, 'r2')];
    expect(read(begun, ['a2'])).toEqual(['one', 'to one', 'two', '[streaming]']);
    const done = [...begun, answer(7, 'a2', 'to two', { run: 'r2' }), runFinished(8, 'r2')];
    expect(read(done)).toEqual(['one', 'to one', 'two', 'to two']);
  });

  it('has a message that was cleared where it was cleared', () => {
    const cleared = [
      ...first,
      queued,
      answer(4, 'a1', 'to one', { run: 'r1' }),
      runFinished(5, 'r2', 'cancelled', 'cleared'),
    ];
    expect(read(cleared)).toEqual(['one', 'to one', 'two', '[end]', '[thinking]']);
  });

  it('leaves a message of which nothing more is known where it came', () => {
    const unknown = [
      userMessage(3, 'two', { run: 'r2', queued: true }),
      answer(4, 'a1', 'to one', { run: 'r1' }),
    ];
    const items = unknown.reduce(foldEvent, syncedView(2)).items;
    const entries = conversationOf(
      { items, queue: [], runId: undefined, streaming: new Map() },
      [],
    );
    expect(entries.map(({ key }) => key)).toEqual(['m-3', 'a1']);
  });

  it('tells that an answer is on its way until it is being written', () => {
    expect(read(first)).toEqual(['one', '[thinking]']);
    expect(read(first, ['a1'])).toEqual(['one', '[streaming]']);
  });
});

describe('an answer that is not whole', () => {
  const cut = (finish: 'length' | 'cancelled' | 'error') =>
    answer(3, 'a1', 'part', { run: 'r1', finish });

  it('says why, once', () => {
    expect(read([...first, cut('length'), runFinished(4, 'r1')])).toEqual([
      'one',
      'part',
      'Cut: length limit',
    ]);
    const stopped = [...first, cut('cancelled'), runFinished(4, 'r1', 'cancelled', 'stopped')];
    expect(read(stopped)).toEqual(['one', 'part', '[end]']);
  });

  it('says so too where the end of the run is not known, as in a snapshot', () => {
    const view = foldEvent(syncedView(2), cut('cancelled'));
    const interrupted = foldEvent(syncedView(2), cut('error'));
    const notes = [view, interrupted].map(({ items }) => {
      const parts = { items, queue: [], runId: undefined, streaming: new Map() };
      return conversationOf(parts, []).at(-1);
    });
    expect(notes).toMatchObject([
      { text: 'Stopped' },
      { text: 'Interrupted: the server restarted' },
    ]);
  });

  it('leaves it to the error', () => {
    const error = {
      ...event('error', {}, { seq: 4, run: 'r1' }),
      error: { code: 'provider_error', message: 'cut', details: {} },
    } as EventEnvelope;
    const failed = [...first, cut('error'), error, runFinished(5, 'r1', 'failed', 'failed')];
    expect(read(failed)).toEqual(['one', 'part', '[error]']);
  });
});

it('says how a run ended', () => {
  const text = (outcome: 'cancelled' | 'interrupted', reason: 'stopped' | 'cleared' | 'crashed') =>
    endText({ kind: 'end', key: '', seq: 1, at: '', runId: 'r', outcome, reason });
  expect(text('cancelled', 'stopped')).toBe('Stopped');
  expect(text('cancelled', 'cleared')).toBe('Not answered: taken from the queue');
  expect(text('interrupted', 'crashed')).toBe('Interrupted: the server restarted');
});

it('finds the question of a run', () => {
  const { items } = first.reduce(foldEvent, syncedView(0));
  expect(questionOf(items, 'r1')).toBe('one');
  expect(questionOf(items, 'r9')).toBeUndefined();
});

it('tells a crash once, where it is an error too', () => {
  const error = {
    ...event('error', {}, { seq: 3, run: 'r1' }),
    error: { code: 'interrupted', message: 'the server stopped', details: {} },
  } as EventEnvelope;
  const crash = [...first, error, runFinished(4, 'r1', 'interrupted', 'crashed')];
  expect(read(crash)).toEqual(['one', '[error]']);
});

describe('the mark of a fork', () => {
  const entries = conversationOf(
    {
      items: addEvents(
        [],
        [
          userMessage(4, 'one', { run: 'r1' }),
          answer(6, 'a1', 'two', { run: 'r1' }),
          userMessage(9, 'three', { run: 'r2' }),
        ],
      ),
      queue: [],
      runId: undefined,
      streaming: new Map(),
    },
    [],
  );
  const marked = (at_seq: number, isOpen = false, of = entries) =>
    withFork(of, { session_id: 'helper_100', at_seq }, isOpen).map((entry) =>
      entry.kind === 'fork' ? entry.at : entry.key,
    );

  it('stands after what is shared, and leads to the last message of it', () => {
    expect(marked(8)).toEqual(['m-4', 'a1', 6, 'm-9']);
    expect(marked(20)).toEqual(['m-4', 'a1', 'm-9', 9]);
  });

  it('is not shown where it is not known to be', () => {
    // More that is shared may follow, or all of that has yet to come.
    expect(marked(20, true)).toEqual(['m-4', 'a1', 'm-9']);
    expect(marked(3)).toEqual(['m-4', 'a1', 'm-9']);
    expect(withFork(entries, null, false)).toBe(entries);
    expect(withFork(entries, undefined, false)).toBe(entries);
  });
});
