import { beforeEach, describe, expect, it } from 'vitest';
import { DraftStorage, TabStorage } from '../../src/client/storage';
import type { Item } from '../../src/client/state';
import { FakeStorage, pendingMessage, syncedView } from './helpers';

let storage: FakeStorage;
let tab: TabStorage;

beforeEach(() => {
  storage = new FakeStorage();
  tab = new TabStorage(() => storage);
});

function message(seq: number, content: string): Item {
  return {
    key: `m-${seq}`,
    seq,
    at: '',
    runId: undefined,
    kind: 'user',
    content,
    author: 'local',
    commandId: undefined,
    queued: false,
  };
}

describe('the client id', () => {
  it('stays the same', () => {
    expect(tab.clientId()).toBeUndefined();
    tab.setClientId('c1');
    expect(tab.clientId()).toBe('c1');
  });
});

describe('the outbox', () => {
  it('comes back in doubt, and what was refused as refused', () => {
    tab.setOutbox([
      pendingMessage('c1', { state: 'sent' }),
      pendingMessage('c2', { state: 'refused' }),
    ]);
    expect(tab.outbox().map(({ id, state }) => [id, state])).toEqual([
      ['c1', 'unknown'],
      ['c2', 'refused'],
    ]);
    tab.setOutbox([]);
    expect(storage.length).toBe(0);
  });

  it('has 64 messages at most, the newest', () => {
    tab.setOutbox(Array.from({ length: 70 }, (_, index) => pendingMessage(`c${index}`)));
    expect(tab.outbox()).toHaveLength(64);
    expect(tab.outbox()[0]?.id).toBe('c6');
  });
});

describe('views', () => {
  it('are dropped, and let go of a part of the past', () => {
    const past = { items: [message(1, 'x')], older: 'more', newer: 'more' } as const;
    tab.setViews([syncedView(3, { past })]);
    expect(tab.views()[0]?.past).toBeUndefined();
    tab.dropView(syncedView(3).sessionId);
    expect(tab.views()).toEqual([]);
  });

  it('come back as they were, but for what only a connection tells', () => {
    const streaming = new Map([['a1', { text: '🙂', points: 1, runId: 'r1', at: '' }]]);
    const run = { id: 'r1', status: 'responding' } as const;
    const stop = { clearQueue: false, runId: 'r1' };
    tab.setViews([syncedView(9, { items: [message(4, 'Hi')], streaming, run, stop })]);
    expect(tab.views()).toEqual([
      syncedView(9, { items: [message(4, 'Hi')], streaming, run, synced: false }),
    ]);
  });

  it('are the newest three, in their order', () => {
    const views = ['a_1', 'b_2', 'c_3', 'd_4'].map((sessionId) => ({
      ...syncedView(1),
      sessionId,
    }));
    tab.setViews(views);
    expect(tab.views().map(({ sessionId }) => sessionId)).toEqual(['a_1', 'b_2', 'c_3']);
    tab.setViews(views.slice(3));
    expect(tab.views().map(({ sessionId }) => sessionId)).toEqual(['d_4']);
  });

  it('have 512 KiB at most: the newest messages, and the way to the older ones', () => {
    const items = Array.from({ length: 100 }, (_, seq) => message(seq + 1, 'x'.repeat(10_000)));
    tab.setViews([syncedView(100, { items })]);
    const [view] = tab.views();
    expect(view?.older).toBe('more');
    expect(view?.items.at(-1)?.seq).toBe(100);
    expect(view?.items.length).toBeGreaterThan(45);
    expect(storage.getItem('duologue:view:helper_417')?.length).toBeLessThan(530_000);
  });

  it('of another version are not taken', () => {
    tab.setViews([syncedView(9)]);
    const key = 'duologue:view:helper_417';
    storage.setItem(key, (storage.getItem(key) ?? '').replace(/^{"version":\d+/, '{"version":0'));
    expect(tab.views()).toEqual([]);
  });
});

describe('drafts', () => {
  let now = 0;
  const drafts = () =>
    new DraftStorage(
      () => storage,
      () => now,
    );

  it('are kept for each session', () => {
    drafts().setDraft('a_1', 'one');
    drafts().setDraft('b_2', 'two');
    expect(drafts().draft('a_1')).toBe('one');
    drafts().setDraft('a_1', '');
    expect(drafts().draft('a_1')).toBe('');
    expect(storage.length).toBe(1);
  });

  it('have 64 KiB at most', () => {
    drafts().setDraft('a_1', 'x'.repeat(70_000));
    expect(drafts().draft('a_1')).toHaveLength(65_536);
  });

  it('are fifty at most: the oldest goes', () => {
    for (now = 1; now <= 51; now++) drafts().setDraft(`a_${now}`, 'text');
    expect(storage.length).toBe(50);
    expect(drafts().draft('a_1')).toBe('');
    expect(drafts().draft('a_51')).toBe('text');
  });
});

describe('storage that fails', () => {
  it('does no harm when it is full', () => {
    storage = new FakeStorage(10);
    tab = new TabStorage(() => storage);
    tab.setOutbox([pendingMessage('c1')]);
    tab.setViews([syncedView(3)]);
    expect(tab.outbox()).toEqual([]);
    expect(tab.views()).toEqual([]);
  });

  it('does no harm when there is none', () => {
    const none = new TabStorage(() => {
      throw new Error('forbidden');
    });
    none.setClientId('c1');
    expect(none.clientId()).toBeUndefined();
    expect(none.outbox()).toEqual([]);
  });

  it('does no harm when somebody has changed it', () => {
    for (const rubbish of ['{', '5', '"x"', '[1]', '{"a":1}', 'null']) {
      storage.setItem('duologue:client', rubbish === '"x"' ? '""' : rubbish);
      storage.setItem('duologue:view:x', rubbish);
      storage.setItem('duologue:draft:x', rubbish);
      expect(tab.clientId()).toBeUndefined();
      expect(tab.views()).toEqual([]);
      expect(
        new DraftStorage(
          () => storage,
          () => 0,
        ).draft('x'),
      ).toBe('');
    }
    for (const rubbish of ['{', '5', '{"a":1}', 'null']) {
      storage.setItem('duologue:outbox', rubbish);
      expect(tab.outbox()).toEqual([]);
    }
  });
});
