import { beforeEach, describe, expect, it } from 'vitest';
import {
  EPOCH,
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
    const older = page.client.queries.loadOlder(SESSION);
    void page.client.queries.loadOlder(SESSION);
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
