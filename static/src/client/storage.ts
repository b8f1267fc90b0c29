/**
 * What survives a reload, and what other tabs share: the keys, each of them bounded.
 *
 * Storage may be full, forbidden or changed by hand: a write that fails is let go, and what cannot be
 * read counts as absent.
 */

import { MAX_OUTBOX } from './commands';
import { emptyView, type Pending, type Streaming, type View } from './state';

/** What is needed of a browser's `Storage`. */
export interface StorageLike {
  readonly length: number;
  key(index: number): string | null;
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

const CLIENT = 'duologue:client';
const OUTBOX = 'duologue:outbox';
const VIEW = 'duologue:view:';
const DRAFT = 'duologue:draft:';

const MAX_VIEWS = 3;
const MAX_VIEW_CHARS = 512 * 1024;
const MAX_DRAFTS = 50;
const MAX_DRAFT_CHARS = 64 * 1024;

/** Storage that cannot be had at all. */
const NOTHING: StorageLike = {
  length: 0,
  key: () => null,
  getItem: () => null,
  setItem: () => {},
  removeItem: () => {},
};

/** A store of text under keys, from which no call ever fails. */
export class SafeStorage {
  readonly #storage: StorageLike;

  constructor(get: () => StorageLike) {
    // In some browsers' settings, naming the storage throws already.
    this.#storage = attempt(get) ?? NOTHING;
  }

  read(key: string): unknown {
    return attempt(() => JSON.parse(this.#storage.getItem(key) ?? 'null') as unknown) ?? undefined;
  }

  write(key: string, value: unknown): void {
    attempt(() => this.#storage.setItem(key, JSON.stringify(value)));
  }

  remove(key: string): void {
    attempt(() => this.#storage.removeItem(key));
  }

  keys(prefix: string): string[] {
    const all = attempt(() =>
      Array.from({ length: this.#storage.length }, (_, index) => this.#storage.key(index) ?? ''),
    );
    return (all ?? []).filter((key) => key.startsWith(prefix));
  }
}

function attempt<T>(call: () => T): T | undefined {
  try {
    return call();
  } catch {
    return undefined;
  }
}

// ---- this tab's ----

/** A tab's memory: gone with the tab, copied where a tab is duplicated. */
export class TabStorage {
  readonly #store: SafeStorage;

  constructor(get: () => StorageLike) {
    this.#store = new SafeStorage(get);
  }

  clientId(): string | undefined {
    const id = this.#store.read(CLIENT);
    return typeof id === 'string' && id !== '' ? id : undefined;
  }

  setClientId(id: string): void {
    this.#store.write(CLIENT, id);
  }

  outbox(): Pending[] {
    const outbox = this.#store.read(OUTBOX);
    if (!Array.isArray(outbox)) return [];
    // Whether they were sent before the reload is not known.
    return (outbox as Pending[]).map((pending) =>
      pending.state === 'refused' ? pending : { ...pending, state: 'unknown' },
    );
  }

  setOutbox(outbox: readonly Pending[]): void {
    if (outbox.length === 0) this.#store.remove(OUTBOX);
    else this.#store.write(OUTBOX, outbox.slice(-MAX_OUTBOX));
  }

  /** Nothing is kept of a session that is no more. */
  dropView(sessionId: string): void {
    this.#store.remove(VIEW + sessionId);
  }

  /** Views to begin with, the one looked at last first. */
  views(): View[] {
    const views = this.#store.keys(VIEW).map((key) => this.#store.read(key) as StoredView);
    return views
      .filter((view) => view?.version === VERSION)
      .toSorted((one, other) => one.rank - other.rank)
      .map(restored);
  }

  /** Keeps the first of these and forgets all others. */
  setViews(views: readonly View[]): void {
    const kept = views.filter((view) => view.loaded).slice(0, MAX_VIEWS);
    for (const key of this.#store.keys(VIEW)) this.#store.remove(key);
    kept.forEach((view, rank) => this.#store.write(VIEW + view.sessionId, stored(view, rank)));
  }
}

/** Counts up when what is stored means something else than before. */
const VERSION = 2;

interface StoredView {
  version: number;
  /** Its place among the views that were looked at. */
  rank: number;
  view: Omit<View, 'streaming'>;
  streaming: [string, Streaming][];
}

function stored(view: View, rank: number): StoredView {
  // A reload comes back to what is newest, or jumps again.
  const present = { ...shortened(view), past: undefined };
  return { version: VERSION, rank, view: present, streaming: [...view.streaming] };
}

function restored({ view, streaming }: StoredView): View {
  return {
    ...emptyView(view.sessionId),
    ...view,
    streaming: new Map(streaming),
    typing: new Set(),
    older: view.older === 'none' ? 'none' : 'more',
    // Nothing is known of what the server has done since.
    stop: undefined,
    problem: undefined,
    synced: false,
    awaiting: false,
    resync: 0,
  };
}

/** A view's newest items, as many as may be stored; the older ones come by history. */
function shortened(view: View): View {
  let room = MAX_VIEW_CHARS - JSON.stringify(view.shared).length;
  const first = view.items.findLastIndex((item) => (room -= JSON.stringify(item).length) < 0) + 1;
  return first === 0 ? view : { ...view, items: view.items.slice(first), older: 'more' };
}

// ---- drafts, which all tabs share ----

export class DraftStorage {
  readonly #store: SafeStorage;

  constructor(
    get: () => StorageLike,
    private readonly now: () => number,
  ) {
    this.#store = new SafeStorage(get);
  }

  draft(sessionId: string): string {
    return this.#read(DRAFT + sessionId)?.text ?? '';
  }

  setDraft(sessionId: string, text: string): void {
    const key = DRAFT + sessionId;
    if (text === '') return this.#store.remove(key);
    this.#store.write(key, { text: text.slice(0, MAX_DRAFT_CHARS), at: this.now() });
    this.#dropOldest();
  }

  /** The text was sent and has arrived: it need not be kept, unless it was changed since. */
  dropSent(sessionId: string, text: string): void {
    if (this.draft(sessionId).trim() === text) this.setDraft(sessionId, '');
  }

  #dropOldest(): void {
    const keys = this.#store.keys(DRAFT);
    if (keys.length <= MAX_DRAFTS) return;
    const age = new Map(keys.map((key) => [key, this.#read(key)?.at ?? 0]));
    const oldest = keys.toSorted((one, other) => (age.get(one) ?? 0) - (age.get(other) ?? 0));
    for (const key of oldest.slice(0, keys.length - MAX_DRAFTS)) this.#store.remove(key);
  }

  #read(key: string): { text: string; at: number } | undefined {
    const draft = this.#store.read(key) as { text?: unknown; at?: unknown } | undefined;
    if (typeof draft?.text !== 'string' || typeof draft.at !== 'number') return undefined;
    return { text: draft.text, at: draft.at };
  }
}
