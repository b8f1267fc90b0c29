import { beforeEach, describe, expect, it } from 'vitest';
import { listedSessions } from '../../src/client/sessions';
import {
  EPOCH,
  event,
  FakePage,
  runFinished,
  runStarted,
  SESSION,
  session,
  TOPIC,
  userMessage,
} from './helpers';

let page: FakePage;

beforeEach(() => {
  page = new FakePage();
});

const messages = () => page.backend.sentOf('chat_message');
const view = () => page.client.state.views.get(SESSION);

/** Lets what was promised be kept. */
const settled = () => Promise.resolve().then(() => Promise.resolve());

describe('once ready', () => {
  it('asks for agents and sessions', () => {
    page.connect();
    const asked = page.backend.sent.map(({ type, data }) => data?.['action'] ?? type);
    expect(asked.toSorted()).toEqual(['get_agents', 'list']);
  });

  it('says so when agents cannot be had', async () => {
    page.connect();
    const [asked] = page.backend.sentOf('get_agents');
    page.backend.refuse(asked?.message_id ?? '', 'unavailable', 'busy');
    await settled();
    expect(page.client.state.agentsError).toBe('busy');
  });
});

describe('sending', () => {
  it('names a session after its first message, when the message has arrived', () => {
    page.openSession();
    page.client.sendMessage(SESSION, 'Plan my trip\nto Rome');
    expect(messages()).toHaveLength(1);
    const renames = () => page.managed('rename');
    expect(renames()).toEqual([]);
    page.backend.reply(messages()[0]?.message_id ?? '', { run_id: 'r1', seq: 3 });
    expect(renames()).toMatchObject([{ data: { title: 'Plan my trip' } }]);

    page.client.sendMessage(SESSION, 'And then?');
    expect(renames()).toHaveLength(1);
  });

  it('waits for a connection, and then keeps the order', () => {
    page.openSession();
    page.backend.end(1006);
    page.client.sendMessage(SESSION, 'one');
    page.client.sendMessage(SESSION, 'two');
    page.clock.pass(250);
    page.backend.establish();
    expect(messages().map(({ data }) => data?.['content'])).toEqual(['one']);
    page.backend.reply(messages()[0]?.message_id ?? '', { run_id: 'r1', seq: 3 });
    // The name comes second: it was asked for with the first message.
    const [rename] = page.managed('rename');
    page.backend.reply(rename?.message_id ?? '');
    expect(messages().map(({ data }) => data?.['content'])).toEqual(['one', 'two']);
  });

  it('sends everything once that has waited for the connection', () => {
    page.openSession('named');
    page.backend.end(1006);
    page.client.sendMessage(SESSION, 'here');
    page.client.sendMessage('writer_100', 'there');
    void page.client.createSession('helper');
    page.clock.pass(250);
    page.backend.establish();
    page.frontend.acknowledge();
    expect(messages().map(({ data }) => data?.['content'])).toEqual(['here', 'there']);
    expect(page.managed('create')).toHaveLength(1);
  });

  it('sends what was not confirmed again, under the same id, and does not double it', () => {
    page.openSession();
    page.client.sendMessage(SESSION, 'Hi');
    const first = messages()[0]?.message_id;
    page.backend.end(1006);
    expect(page.client.state.pending[0]?.state).toBe('unknown');
    page.clock.pass(250);
    page.backend.establish();
    expect(messages()[0]?.message_id).toBe(first);
    page.backend.reply(first ?? '', { run_id: 'r1', seq: 3, duplicate: true });
    page.frontend.receive(userMessage(3, 'Hi', { commandId: first ?? '', run: 'r1' }));
    expect(view()?.items.filter((item) => item.kind === 'user')).toHaveLength(1);
  });

  it('survives a reload: the same id once more, after the log has been heard', () => {
    page.openSession();
    page.client.sendMessage(SESSION, 'Hi');
    const first = messages()[0]?.message_id;
    page.client.suspend();

    page = new FakePage(page.tab, page.shared);
    expect(page.client.state.pending).toMatchObject([{ id: first, state: 'unknown' }]);
    page.backend.establish();
    page.frontend.establish();
    expect(messages()).toEqual([]);
    const [subscribe] = page.frontend.sentOf('subscribe');
    expect(subscribe?.data).toMatchObject({
      topics: ['system', TOPIC],
      positions: { [TOPIC]: { epoch: EPOCH, seq: 2 } },
    });
    page.frontend.acknowledge({ [TOPIC]: { head: 2 } });
    expect(messages().map(({ message_id }) => message_id)).toEqual([first]);
  });

  it('says in figures that a message is too long', () => {
    page.openSession();
    expect(page.client.sendMessage(SESSION, 'x'.repeat(300_000))).toContain('293.0 KiB');
    expect(page.client.state.pending).toEqual([]);
  });

  it('takes no more than can be kept', () => {
    page.openSession();
    page.backend.end(1006);
    for (let count = 0; count < 64; count++) {
      expect(page.client.sendMessage(SESSION, `${count}`)).toBeUndefined();
    }
    expect(page.client.sendMessage(SESSION, 'one more')).toContain('64');
  });

  it('drops the draft when the message has arrived, unless it is another text by now', () => {
    page.openSession();
    page.client.drafts.setDraft(SESSION, 'Hi ');
    page.client.sendMessage(SESSION, 'Hi');
    expect(page.client.drafts.draft(SESSION)).toBe('Hi ');
    page.backend.reply(messages()[0]?.message_id ?? '', { run_id: 'r1', seq: 3 });
    expect(page.client.drafts.draft(SESSION)).toBe('');

    page.client.sendMessage(SESSION, 'And?');
    page.client.drafts.setDraft(SESSION, 'something else');
    page.frontend.receive(userMessage(3, 'And?', { commandId: messages()[1]?.message_id ?? '' }));
    expect(page.client.drafts.draft(SESSION)).toBe('something else');
  });
});

describe('stopping', () => {
  const stops = () => page.backend.sentOf('stop_run');

  it('names the run, once', () => {
    page.openSession();
    page.frontend.receive(userMessage(3, 'Hi', { run: 'r1' }));
    page.frontend.receive(runStarted(4, 'r1'));
    page.client.stop(SESSION, true);
    expect(stops()).toMatchObject([{ data: { run_id: 'r1', clear_queue: true } }]);
    page.backend.reply(stops()[0]?.message_id ?? '', { outcome: 'cancelled' });
    page.frontend.receive(runFinished(5, 'r1', 'cancelled', 'stopped'));
    expect(stops()).toHaveLength(1);
  });

  it('waits for the run to have a name', () => {
    page.openSession();
    page.client.sendMessage(SESSION, 'Hi');
    page.client.stop(SESSION, false);
    expect(stops()).toEqual([]);
    page.backend.reply(messages()[0]?.message_id ?? '', { run_id: 'r1', seq: 3 });
    expect(stops()).toMatchObject([{ data: { run_id: 'r1' } }]);
  });
});

describe('losing continuity', () => {
  it('asks again from the position, and then for a snapshot', () => {
    page.openSession();
    const before = page.frontend.sent.length;
    page.frontend.receive(userMessage(9, 'too far'));
    page.frontend.acknowledge({ [TOPIC]: { head: 2 } });
    page.frontend.receive(userMessage(9, 'too far'));
    const sent = page.frontend.sent.slice(before);
    expect(sent).toMatchObject([
      { type: 'subscribe', data: { positions: { [TOPIC]: { epoch: EPOCH, seq: 2 } } } },
      { type: 'unsubscribe', data: { topics: [TOPIC] } },
      { type: 'subscribe', data: { positions: {} } },
    ]);
  });
});

describe('a duplicated tab', () => {
  it('takes a new id and lets the log tell what has arrived', () => {
    page.openSession();
    const oldId = page.backend.clientId;
    page.client.sendMessage(SESSION, 'arrived');
    page.backend.end(4409);
    expect(page.backend.clientId).not.toBe(oldId);
    expect(page.tab.getItem('duologue:client')).toContain(page.backend.clientId);
    page.connect({ [TOPIC]: { head: 3 } });
    expect(messages()).toEqual([]);
    const commandId = page.client.state.pending[0]?.id ?? '';
    page.frontend.receive(userMessage(3, 'arrived', { commandId }));
    expect(page.client.state.pending).toEqual([]);
  });
});

describe('a server without its memory', () => {
  it('gives a new session to which the unsent text goes along', async () => {
    page.openSession();
    page.client.sendMessage(SESSION, 'was it sent?');
    page.client.drafts.setDraft(SESSION, 'half a thought');
    page.frontend.end(1006);
    page.backend.end(1006);
    page.clock.pass(250);
    page.backend.establish();
    page.frontend.establish();
    const reply_to = page.frontend.sentOf('subscribe')[0]?.message_id;
    const error = { code: 'session_not_found', message: 'gone', details: { topic: TOPIC } };
    page.frontend.receive({ type: 'subscribe_error', reply_to, error });
    const topics = [{ topic: 'system', epoch: 'new', head: 0, recovered: true }];
    page.frontend.receive({ type: 'subscribe_ack', reply_to, data: { topics } });
    expect(page.client.state.connection.phase).toBe('ready');
    expect(view()).toMatchObject({ problem: { code: 'session_not_found' }, loaded: true });
    page.backend.refuse(messages()[0]?.message_id ?? '', 'session_not_found');

    const continued = page.client.continueElsewhere(SESSION);
    const create = page.backend.sent.find(({ data }) => data?.['action'] === 'create');
    expect(create).toMatchObject({ agent_id: 'helper' });
    const created = { session_id: 'helper_500', epoch: 'e9', seq: 1 };
    page.backend.reply(create?.message_id ?? '', created);
    expect(await continued).toMatchObject({ ok: true, data: { session_id: 'helper_500' } });
    expect(page.client.drafts.draft('helper_500')).toBe('was it sent?\n\nhalf a thought');
    expect(page.client.drafts.draft(SESSION)).toBe('');
    const kept = page.client.state.pending.filter(({ type }) => type === 'chat_message');
    expect(kept).toEqual([]);
  });

  it('is not asked again and again for what it does not have', () => {
    page.connect();
    page.client.open(SESSION);
    const { sent } = page.frontend;
    const error = { code: 'session_not_found', message: 'gone', details: { topic: TOPIC } };
    page.frontend.receive({
      type: 'subscribe_error',
      reply_to: sent.at(-1)?.message_id,
      error,
    });
    const before = sent.length;
    page.clock.pass(20_000);
    expect(sent.length).toBe(before);
  });
});

describe('questions', () => {
  it('fail when the connection is lost, and can be asked again', async () => {
    page.openSession();
    const [, list] = [0, page.client.queries.listSessions('trip')];
    expect(page.client.state.list.phase).toBe('loading');
    page.backend.end(1006);
    await list;
    expect(page.client.state.list).toMatchObject({ phase: 'failed', query: 'trip' });
    page.clock.pass(250);
    page.backend.establish();
    const asked = page.backend.sent.findLast(({ data }) => data?.['action'] === 'list');
    expect(asked?.data).toMatchObject({ query: 'trip' });
    page.backend.reply(asked?.message_id ?? '', { sessions: [session()], next_cursor: null });
    await settled();
    expect(page.client.state.list.found?.has(SESSION)).toBe(true);
  });

  it('bring older events from before the first that is there', async () => {
    page.openSession();
    page.frontend.receive(userMessage(3, 'Hi'));
    page.client.trim(SESSION, 0);
    const older = page.client.queries.loadMore(SESSION, 'older');
    void page.client.queries.loadMore(SESSION, 'older');
    const asked = page.managed('history');
    expect(asked).toMatchObject([{ data: { before: 4 } }]);
    const events = [userMessage(3, 'Hi')];
    page.backend.reply(asked[0]?.message_id ?? '', {
      events,
      epoch: EPOCH,
      head: 3,
      more: false,
    });
    await older;
    expect(view()?.items.map((item) => item.seq)).toEqual([2, 3]);
  });
});

describe('deleting', () => {
  const deletions = () => page.managed('delete');
  const sent = () => deletions().map(({ message_id }) => message_id);
  const shown = () => listedSessions(page.client.state).map(({ session_id }) => session_id);
  const gone = { reason: 'deleted', replaced_by: null } as const;

  beforeEach(() => {
    page.openSession('named');
    page.frontend.receive({ type: 'session_list_changed', data: session() });
  });

  it('hides the session at once, and asks the server only when it cannot be taken back', () => {
    page.client.deleteSession(SESSION);
    expect(shown()).toEqual([]);
    expect(deletions()).toEqual([]);
    page.client.commitDeletions();
    expect(deletions()).toMatchObject([{ session_id: SESSION }]);
    page.backend.reply(sent()[0] ?? '');
    expect(shown()).toEqual([]);
    expect(page.client.state.pending).toEqual([]);
  });

  it('is taken back without a word to the server, now and later', () => {
    page.client.deleteSession(SESSION);
    page.client.undoDeletions();
    page.client.commitDeletions();
    page.client.suspend();
    expect(shown()).toEqual([SESSION]);
    expect(deletions()).toEqual([]);
    const again = new FakePage(page.tab, page.shared);
    again.connect();
    expect(again.managed('delete')).toEqual([]);
  });

  it('is asked for when the page is left', () => {
    page.client.deleteSession(SESSION);
    const { backend } = page;
    page.client.suspend();
    const asked = backend.sent.findLast(({ data }) => data?.['action'] === 'delete');
    expect(asked).toBeDefined();
    // Whether it arrived is not known: the page that comes next asks again, under the same id.
    const again = new FakePage(page.tab, page.shared);
    again.connect();
    expect(again.managed('delete')).toMatchObject([{ message_id: asked?.message_id }]);
    again.backend.reply(asked?.message_id ?? '', { duplicate: true });
    expect(again.tab.getItem('duologue:outbox')).toBeNull();
  });

  it('waits for a connection through a reload', () => {
    page.backend.end(1006);
    page.client.deleteSession(SESSION);
    page.client.suspend();
    const again = new FakePage(page.tab, page.shared);
    again.frontend.receive({ type: 'session_list_changed', data: session() });
    expect(listedSessions(again.client.state)).toEqual([]);
    again.connect();
    expect(again.managed('delete')).toMatchObject([{ session_id: SESSION }]);
  });

  it('is not stored while it can be taken back: a copied tab would do it', () => {
    page.client.deleteSession(SESSION);
    const copy = new FakePage(page.tab, page.shared);
    copy.connect();
    expect(copy.managed('delete')).toEqual([]);
  });

  it('is sent again under the same id when the connection was lost', () => {
    page.client.deleteSession(SESSION);
    page.client.commitDeletions();
    const [id] = sent();
    page.backend.end(1006);
    page.clock.pass(250);
    page.backend.establish();
    expect(sent()).toEqual([id]);
  });

  it('is asked for again by a tab that takes a new id, unless it can still be taken back', () => {
    page.client.deleteSession(SESSION);
    page.client.commitDeletions();
    page.client.deleteSession('writer_100');
    page.backend.end(4409);
    page.connect();
    expect(deletions()).toMatchObject([{ session_id: SESSION }]);
    page.client.undoDeletions();
    expect(page.client.state.pending).toHaveLength(1);
  });

  it('is done where the server has no such session, and undone where it refuses', () => {
    page.client.deleteSession(SESSION);
    page.client.commitDeletions();
    page.backend.refuse(sent()[0] ?? '', 'unavailable', 'not now');
    expect(shown()).toEqual([SESSION]);
    expect(page.client.state.pending).toMatchObject([{ state: 'refused' }]);
    page.client.resendMessage(sent()[0] ?? '');
    expect(shown()).toEqual([]);
    page.backend.refuse(sent()[0] ?? '', 'session_not_found');
    expect(shown()).toEqual([]);
    expect(page.client.state.pending).toEqual([]);
  });

  it('leaves nothing of the session in storage', () => {
    page.client.drafts.setDraft(SESSION, 'half a thought');
    page.client.keep();
    expect(page.tab.getItem(`duologue:view:${SESSION}`)).not.toBeNull();
    page.client.open(undefined);
    page.client.deleteSession(SESSION);
    page.client.commitDeletions();
    page.backend.reply(sent()[0] ?? '');
    expect(page.client.drafts.draft(SESSION)).toBe('');
    expect(page.tab.getItem(`duologue:view:${SESSION}`)).toBeNull();
    expect(page.client.state).toMatchObject({ recent: [] });
    expect(view()).toBeUndefined();
  });

  it('by another leaves who looks at it what there is, until they go', () => {
    page.client.drafts.setDraft(SESSION, 'half a thought');
    page.frontend.receive(runStarted(3, 'r1'));
    page.frontend.receive(event('session_closed', gone));
    page.frontend.receive({
      type: 'session_list_changed',
      data: { session_id: SESSION, removed: true },
    });
    expect(view()).toMatchObject({ closed: gone, run: undefined, loaded: true });
    expect(page.client.drafts.draft(SESSION)).toBe('half a thought');
    page.client.keep();
    expect(page.tab.getItem(`duologue:view:${SESSION}`)).toBeNull();

    page.client.open('writer_100');
    expect(view()).toBeUndefined();
    expect(page.client.drafts.draft(SESSION)).toBe('');
  });

  it('is not undone by a list that was asked for before', async () => {
    page.client.open(undefined);
    const list = page.client.queries.listSessions('');
    page.frontend.receive(event('session_closed', gone));
    const asked = page.managed('list').at(-1)?.message_id ?? '';
    page.backend.reply(asked, { sessions: [session()], next_cursor: null });
    await list;
    expect(shown()).toEqual([]);
    // The same id, given to another session.
    page.frontend.receive({ type: 'session_list_changed', data: session({ epoch: 'e2' }) });
    expect(shown()).toEqual([SESSION]);
  });
});

describe('forking', () => {
  const forks = () => page.managed('fork');

  /** Answers the question where the run ended. */
  async function runEndsAt(seq: number): Promise<void> {
    const asked = page.managed('history').at(-1);
    const events = [runFinished(seq, 'r1')];
    page.backend.reply(asked?.message_id ?? '', { events, epoch: EPOCH, head: seq, more: false });
    await settled();
  }

  it('begins where the run ended, with a name of its own', async () => {
    page.openSession('Trip plan');
    const forked = page.client.forkSession(SESSION, 'r1', 3);
    expect(page.managed('history')).toMatchObject([{ data: { after: 3 } }]);
    await runEndsAt(7);
    expect(forks()).toMatchObject([
      { session_id: SESSION, data: { at_seq: 7, title: 'Fork of Trip plan' } },
    ]);
    const created = { session_id: 'helper_500', epoch: 'e9', seq: 1 };
    page.backend.reply(forks()[0]?.message_id ?? '', created);
    expect(await forked).toMatchObject({ ok: true, data: created });
    const from = { session_id: SESSION, at_seq: 7 };
    expect(page.client.state.views.get('helper_500')?.forkedFrom).toEqual(from);
  });

  it('gives no name where there is none', async () => {
    page.openSession();
    void page.client.forkSession(SESSION, 'r1', 3);
    await runEndsAt(7);
    expect(forks()[0]?.data).toEqual({ action: 'fork', at_seq: 7 });
  });

  it('takes the nearest place, once', async () => {
    page.openSession();
    const forked = page.client.forkSession(SESSION, 'r1', 3);
    await runEndsAt(7);
    const refuse = (nearest: number) => {
      const error = {
        code: 'invalid_field',
        message: 'open',
        details: { nearest },
        retryable: false,
      };
      const reply_to = forks().at(-1)?.message_id;
      page.backend.receive({ v: 1, type: 'reply', reply_to, ok: false, error });
    };
    refuse(12);
    await settled();
    await settled();
    expect(forks().map(({ data }) => data?.['at_seq'])).toEqual([7, 12]);
    refuse(13);
    expect(await forked).toMatchObject({ ok: false, error: { message: 'open' } });
    expect(forks()).toHaveLength(2);
  });

  it('is not tried where the run has not ended', async () => {
    page.openSession();
    const forked = page.client.forkSession(SESSION, 'r2', 3);
    await runEndsAt(7);
    expect(await forked).toMatchObject({ ok: false, error: { code: 'conflict' } });
    expect(forks()).toEqual([]);
  });

  it('is sent again under the same id when the connection was lost', async () => {
    page.openSession();
    const forked = page.client.forkSession(SESSION, 'r1', 3);
    await runEndsAt(7);
    const id = forks()[0]?.message_id ?? '';
    page.backend.end(1006);
    page.clock.pass(250);
    page.backend.establish();
    expect(forks()).toMatchObject([{ message_id: id }]);
    page.backend.reply(id, { session_id: 'helper_500', epoch: 'e9', seq: 1, duplicate: true });
    expect(await forked).toMatchObject({ ok: true });
  });
});

describe('searching', () => {
  const searches = () => page.managed('search');

  it('asks for messages, and for more of them', async () => {
    page.connect();
    void page.client.queries.search('trip');
    expect(searches()).toMatchObject([{ data: { query: 'trip' } }]);
    const hit = { session_id: SESSION, title: null, seq: 3, excerpt: 'trip' };
    const reply = (cursor: string | null) => {
      const data = { hits: [hit], next_cursor: cursor };
      page.backend.reply(searches().at(-1)?.message_id ?? '', data);
      return settled();
    };
    await reply('c');
    void page.client.queries.searchMore();
    expect(searches()[1]?.data).toMatchObject({ query: 'trip', cursor: 'c' });
    await reply(null);
    expect(page.client.state.search.hits).toHaveLength(2);
    void page.client.queries.searchMore();
    void page.client.queries.search('t');
    expect(searches()).toHaveLength(2);
    expect(page.client.state.search.phase).toBe('none');
  });

  it('that failed is done again when the connection is back', async () => {
    page.connect();
    const search = page.client.queries.search('trip');
    page.backend.end(1006);
    await search;
    expect(page.client.state.search).toMatchObject({ phase: 'failed', query: 'trip' });
    page.clock.pass(250);
    page.backend.establish();
    expect(searches()).toMatchObject([{ data: { query: 'trip' } }]);
  });
});

describe('a message far away', () => {
  const ask = () => page.managed('history').at(-1);
  const answerWith = (events: object[]) => {
    page.backend.reply(ask()?.message_id ?? '', { events, epoch: EPOCH, head: 900, more: true });
    return settled();
  };

  it('is asked for with what is around it', async () => {
    page.openSession();
    const problem = page.client.queries.loadAround(SESSION, 50);
    expect(ask()?.data).toMatchObject({ before: 150 });
    await answerWith([userMessage(50, 'there'), userMessage(51, 'and on')]);
    expect(await problem).toBeUndefined();
    expect(view()?.items.map((item) => item.seq)).toEqual([2, 50, 51]);
  });

  it('is asked for by itself where long messages stand in the way', async () => {
    page.openSession();
    const problem = page.client.queries.loadAround(SESSION, 50);
    await answerWith([userMessage(120, 'long')]);
    expect(ask()?.data).toMatchObject({ before: 51 });
    await answerWith([userMessage(49, 'x')]);
    expect(await problem).toMatchObject({ message: 'The chat has no such message.' });
  });
});
