// @vitest-environment happy-dom

import { render } from 'preact';
import { act } from 'preact/test-utils';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { Announcer, newsBetween } from '../../src/ui/Announcer';
import { Composer, type ComposerHandle } from '../../src/ui/Composer';
import { ConnectionDialog } from '../../src/ui/ConnectionDialog';
import { describe as describeContext } from '../../src/ui/ContextMeter';
import { DeletionToast } from '../../src/ui/DeletionToast';
import { EndedBanner } from '../../src/ui/EndedBanner';
import { ErrorNote } from '../../src/ui/ErrorNote';
import { ForkButton } from '../../src/ui/Fork';
import { MessageHits } from '../../src/ui/MessageHits';
import { warning } from '../../src/ui/notices';
import { PendingStatus } from '../../src/ui/PendingStatus';
import { TitleField } from '../../src/ui/TitleField';
import {
  answer,
  event,
  runFinished,
  runStarted,
  SESSION,
  stateWith,
  syncedView,
  userMessage,
} from './helpers';
import { answered, button, find, onScreen, page, pass, press, root, show } from './screen';

onScreen();

describe('the composer', () => {
  const handle: { current: ComposerHandle | null } = { current: null };
  const sent = () => page.backend.sentOf('chat_message');
  const field = () => find<HTMLTextAreaElement>('textarea');
  let onSent = vi.fn<() => void>();

  function compose(more: { isLoading?: boolean; isEnded?: boolean } = {}): void {
    onSent = vi.fn<() => void>();
    show(
      <Composer
        sessionId={SESSION}
        handle={handle}
        isLoading={false}
        isEnded={false}
        onSent={onSent}
        {...more}
      />,
    );
  }

  beforeEach(() => page.openSession('x'));

  it('sends with Enter, and is empty then', () => {
    compose();
    field().value = '  Hi  ';
    const pressed = press(field(), 'Enter');
    expect(pressed.defaultPrevented).toBe(true);
    expect(sent()).toMatchObject([{ session_id: SESSION, data: { content: 'Hi' } }]);
    expect(field().value).toBe('');
    expect(onSent).toHaveBeenCalledOnce();
  });

  it('breaks the line with Shift+Enter', () => {
    compose();
    field().value = 'Hi';
    expect(press(field(), 'Enter', { shiftKey: true }).defaultPrevented).toBe(false);
    expect(sent()).toEqual([]);
  });

  it('leaves Enter to an input method', () => {
    compose();
    field().value = 'にほん';
    press(field(), 'Enter', { isComposing: true });
    press(field(), 'Enter', { keyCode: 229 });
    expect(sent()).toEqual([]);
  });

  it('sends nothing that is empty, nor where nothing may be sent', () => {
    compose();
    field().value = ' \n ';
    press(field(), 'Enter');
    compose({ isEnded: true });
    field().value = 'Hi';
    press(field(), 'Enter');
    expect(field().readOnly).toBe(true);
    expect(sent()).toEqual([]);
  });

  it('says in figures what is too long, and keeps the text', () => {
    compose();
    field().value = 'x'.repeat(300_000);
    press(field(), 'Enter');
    expect(find('.composer-problem').textContent).toContain('293.0 KiB');
    expect(field().value).toHaveLength(300_000);
  });

  it('brings the last message back with Up, only when empty', () => {
    page.frontend.receive(userMessage(3, 'the last one'));
    compose();
    press(field(), 'ArrowUp');
    expect(field().value).toBe('the last one');
    field().value = 'text';
    press(field(), 'ArrowUp');
    expect(field().value).toBe('text');
  });

  it('keeps the draft soon after it is written, and when it goes', () => {
    compose();
    field().value = 'half a';
    act(() => void field().dispatchEvent(new Event('input', { bubbles: true })));
    expect(page.client.drafts.draft(SESSION)).toBe('');
    pass(300);
    expect(page.client.drafts.draft(SESSION)).toBe('half a');

    field().value = 'half a thought';
    act(() => void field().dispatchEvent(new Event('input', { bubbles: true })));
    act(() => render(null, root));
    expect(page.client.drafts.draft(SESSION)).toBe('half a thought');
    compose();
    expect(field().value).toBe('half a thought');
  });

  it('does not show as a draft what is on its way', () => {
    page.client.drafts.setDraft(SESSION, 'Hi');
    page.client.sendMessage(SESSION, 'Hi');
    compose();
    expect(field().value).toBe('');
  });

  it('offers to stop from the sending on, and says when it is stopping', () => {
    compose();
    expect(root.querySelector('.stop')).toBeNull();
    field().value = 'Hi';
    press(field(), 'Enter');
    expect(find('.stop').textContent).toBe('Stop');
    const id = sent()[0]?.message_id ?? '';
    act(() => {
      page.frontend.receive(userMessage(3, 'Hi', { commandId: id, run: 'r1' }));
      page.frontend.receive(runStarted(4, 'r1'));
      page.backend.reply(id, { run_id: 'r1', seq: 3 });
    });
    act(() => find('.stop').click());
    expect(find('.stop').textContent).toBe('Stopping…');
    act(() => find('.stop').click());
    expect(page.backend.sentOf('stop_run')).toHaveLength(1);
    act(() => page.frontend.receive(runFinished(5, 'r1', 'cancelled', 'stopped')));
    expect(root.querySelector('.stop')).toBeNull();
  });

  it('tells how many messages wait, and clears them', () => {
    compose();
    act(() => {
      page.frontend.receive(userMessage(3, 'one', { run: 'r1' }));
      page.frontend.receive(runStarted(4, 'r1'));
      page.frontend.receive(userMessage(5, 'two', { run: 'r2', queued: true }));
      page.frontend.receive(userMessage(6, 'three', { run: 'r3', queued: true }));
    });
    expect(find('.waiting').textContent).toContain('2 waiting');
    act(() => button('Stop and clear').click());
    expect(page.backend.sentOf('stop_run')).toMatchObject([
      { data: { run_id: 'r1', clear_queue: true } },
    ]);
  });

  it('tells that somebody writes, and that no more is written', () => {
    compose();
    const told = () => page.backend.sentOf('typing').map(({ data }) => data?.['typing']);
    const write = (text: string) => {
      field().value = text;
      act(() => void field().dispatchEvent(new Event('input', { bubbles: true })));
    };
    write('H');
    write('Hi');
    press(field(), 'Enter');
    expect(told()).toEqual([true, false]);
    pass(3_000);
    write('x');
    write('');
    expect(told()).toEqual([true, false, true, false]);
  });

  it('says that somebody writes elsewhere', () => {
    compose();
    const data = { author: 'local', client_id: 'other', typing: true, expires_in_ms: 6_000 };
    act(() => page.frontend.receive(event('typing', data)));
    expect(find('.waiting').textContent).toBe('Somebody is typing…');
    pass(6_000);
    expect(find('.waiting').textContent).toBe('');
  });

  it('takes in a text that is to be edited', () => {
    compose();
    act(() => handle.current?.insert('one'));
    act(() => handle.current?.insert('two'));
    expect(field().value).toBe('one\n\ntwo');
  });
});

describe('the connection dialog', () => {
  it('keeps quiet for a second, then counts down, then says that all is well', () => {
    page.connect();
    show(<ConnectionDialog />);
    act(() => {
      page.frontend.end(1006);
      page.clock.pass(0);
    });
    pass(999);
    expect(root.querySelector('.connection')).toBeNull();
    act(() => page.frontend.end(1006));
    pass(1);
    expect(find('[role=dialog]').textContent).toContain('Connection closed – retrying');
    expect(find('p').textContent).toMatch(/Attempt 2 · next in 1 s/);

    act(() => {
      page.clock.pass(5_000);
      page.frontend.establish();
      page.frontend.acknowledge();
    });
    expect(find('.connection').textContent).toBe('Connected again');
    act(() => page.frontend.end(1006));
    expect(find('[role=dialog]').textContent).toContain('Connection closed – retrying');
    act(() => {
      page.clock.pass(5_000);
      page.frontend.establish();
      page.frontend.acknowledge();
    });
    pass(2_000);
    expect(root.querySelector('.connection')).toBeNull();
  });

  it('says at once why there will be no other attempt', () => {
    page.connect();
    show(<ConnectionDialog />);
    act(() => page.backend.end(4401));
    expect(find('[role=dialog]').textContent).toContain('Sign in again');
    expect(root.textContent).not.toContain('next in');
  });

  it('takes over again where another tab has taken over', () => {
    page.connect();
    show(<ConnectionDialog />);
    act(() => page.backend.end(4409));
    act(() => {
      page.connect();
      page.backend.end(4409);
    });
    expect(find('h2').textContent).toBe('Opened elsewhere');
    const before = page.sockets.length;
    act(() => button('Use here').click());
    expect(page.sockets.length).toBe(before + 2);
  });
});

describe('a message that was refused', () => {
  it('can be edited or sent again', () => {
    page.openSession('x');
    page.client.sendMessage(SESSION, 'Hi');
    const id = page.backend.sentOf('chat_message')[0]?.message_id ?? '';
    page.backend.refuse(id, 'busy', 'the queue is full');
    const onEdit = vi.fn<(text: string) => void>();
    const [pending] = page.client.state.pending;
    if (!pending) throw new Error('nothing is pending');

    show(<PendingStatus pending={pending} onEdit={onEdit} />);
    expect(root.textContent).toContain('Not sent. The queue is full.');
    act(() => button('Try again').click());
    expect(page.backend.sentOf('chat_message')).toHaveLength(2);

    act(() => button('Edit').click());
    expect(onEdit).toHaveBeenCalledWith('Hi');
    expect(page.client.state.pending).toEqual([]);
  });
});

describe('an error', () => {
  function fail(code: string, details: Record<string, unknown> = {}): void {
    page.openSession('x');
    page.frontend.receive(userMessage(3, 'the question', { run: 'r1' }));
    page.frontend.receive(runStarted(4, 'r1'));
    page.frontend.receive({
      ...event('error', {}, { seq: 5, run: 'r1' }),
      timestamp: new Date(0).toISOString(),
      error: { code, message: 'it went wrong', details },
    });
    page.frontend.receive(runFinished(6, 'r1', 'failed', 'failed'));
    const item = page.client.state.views.get(SESSION)?.items.at(-1);
    if (item?.kind !== 'error') throw new Error('no error');
    show(<ErrorNote sessionId={SESSION} item={item} />);
  }

  it('repeats the question, once the provider may be asked again', () => {
    fail('provider_rate_limited', { retry_after_ms: 3_000 });
    expect(button('Try again in 3 s').disabled).toBe(true);
    for (let second = 0; second < 3; second++) pass(1_000);
    act(() => button('Try again').click());
    expect(page.backend.sentOf('chat_message')).toMatchObject([
      { data: { content: 'the question' } },
    ]);
  });

  it('names what is to be done', () => {
    fail('provider_auth');
    expect(root.textContent).toContain('It went wrong.');
    expect(root.textContent).toContain('Set the key');
  });

  it('offers a new chat where this one is too long', () => {
    fail('context_overflow');
    act(() => button('Start a new chat with Helper').click());
    const created = page.managed('create');
    expect(created).toHaveLength(1);
  });
});

describe('renaming in place', () => {
  const renames = () => page.managed('rename');
  const field = () => find<HTMLInputElement>('input');
  let onDone = vi.fn<() => void>();

  beforeEach(() => {
    page.openSession('x');
    onDone = vi.fn<() => void>();
    show(<TitleField sessionId={SESSION} title="old" onDone={onDone} />);
  });

  it('saves with Enter', () => {
    field().value = ' new ';
    press(field(), 'Enter');
    expect(renames()).toMatchObject([{ session_id: SESSION, data: { title: 'new' } }]);
    expect(onDone).toHaveBeenCalledOnce();
  });

  it('restores with Escape, and does not save when it loses the focus by that', () => {
    field().value = 'new';
    press(field(), 'Escape');
    act(() => void field().dispatchEvent(new Event('blur')));
    expect(renames()).toEqual([]);
    expect(onDone).toHaveBeenCalledOnce();
  });

  it('saves no empty name', () => {
    field().value = '  ';
    press(field(), 'Enter');
    expect(renames()).toEqual([]);
  });
});

describe('what is announced', () => {
  const before = stateWith(syncedView(3));
  const running = stateWith(syncedView(4, { run: { id: 'r1', status: 'thinking' } }));

  it('is that an answer begins, and the answer', () => {
    expect(newsBetween(before, running)?.text).toBe('Helper is answering');
    page.openSession('x');
    page.frontend.receive(answer(3, 'a1', `**Yes** ${'x'.repeat(600)}`, { run: 'r1' }));
    const { items } = page.client.state.views.get(SESSION) ?? syncedView(0);
    const text = newsBetween(running, stateWith(syncedView(5, { items })))?.text;
    expect(text).toMatch(/^Yes x{496} … more in the chat$/);
  });

  it('is the end of a run that was too short to be seen', () => {
    page.openSession('x');
    page.frontend.receive(userMessage(3, 'Hi', { run: 'r1' }));
    page.frontend.receive(answer(4, 'a1', 'Yes', { run: 'r1' }));
    const { items } = page.client.state.views.get(SESSION) ?? syncedView(0);
    const after = stateWith(syncedView(4, { items }));
    expect(newsBetween(before, after)?.text).toBe('Yes');
    const older = stateWith(syncedView(4, { items: items.slice(-1) }));
    expect(newsBetween(older, after)).toBeUndefined();
  });

  it('is nothing of what was there before', () => {
    const behind = stateWith(syncedView(3, { synced: false }));
    expect(newsBetween(behind, running)).toBeUndefined();
    expect(newsBetween({ ...before, open: 'other' }, running)).toBeUndefined();
    expect(newsBetween(before, before)).toBeUndefined();
  });

  it('goes to one place for news, and to one for errors', () => {
    page.openSession('x');
    show(<Announcer />);
    act(() => {
      page.frontend.receive(userMessage(3, 'Hi', { run: 'r1' }));
      page.frontend.receive(runStarted(4, 'r1'));
    });
    expect(find('[role=status]').textContent).toBe('Helper is answering');
    act(() => {
      page.frontend.receive({
        ...event('error', {}, { seq: 5, run: 'r1' }),
        error: { code: 'provider_timeout', message: 'too late', details: {} },
      });
      page.frontend.receive(runFinished(6, 'r1', 'failed', 'failed'));
    });
    expect(find('[role=alert]').textContent).toBe('Failed: too late');
  });
});

it('describes the context in words', () => {
  const context = {
    tokens_used: 5012,
    context_window: 8192,
    percentage: 62,
    omitted_messages: 4,
    source: 'estimate',
  } as const;
  expect(describeContext(context)).toBe(
    '5,012 of 8,192 tokens (62 %), estimated; 4 older messages left out',
  );
  expect(describeContext({ ...context, omitted_messages: 0, source: 'provider' })).toBe(
    '5,012 of 8,192 tokens (62 %)',
  );
});

describe('what has been deleted', () => {
  const deletions = () => page.managed('delete');
  const toast = () => root.querySelector('.toast');
  const drop = (sessionId: string) => act(() => page.client.deleteSession(sessionId));

  beforeEach(() => {
    page.openSession('Trip plan');
    show(<DeletionToast />);
    drop(SESSION);
    // As with a mouse, after which the focus is not seen; it is always, here.
    button('Undo').blur();
  });

  it('can be had back for six seconds', () => {
    expect(toast()?.textContent).toContain('Deleted “Trip plan”.');
    pass(5_900);
    expect(deletions()).toEqual([]);
    pass(200);
    expect(toast()).toBeNull();
    expect(deletions()).toMatchObject([{ session_id: SESSION }]);
  });

  it('is had back by its button', () => {
    act(() => button('Undo').click());
    expect(toast()).toBeNull();
    pass(20_000);
    expect(deletions()).toEqual([]);
    expect(page.client.state.pending).toEqual([]);
  });

  it('is not counted down while it is pointed at', () => {
    const point = (type: string) => act(() => void toast()?.dispatchEvent(new Event(type)));
    point('pointerenter');
    pass(20_000);
    expect(deletions()).toEqual([]);
    point('pointerleave');
    pass(6_100);
    expect(deletions()).toHaveLength(1);
  });

  it('is not counted down while it has the focus by keyboard', () => {
    act(() => button('Undo').focus());
    pass(20_000);
    expect(deletions()).toEqual([]);
    act(() => button('Undo').blur());
    pass(6_100);
    expect(deletions()).toHaveLength(1);
  });

  it('is told together where there is more of it, and had back together', () => {
    pass(5_000);
    drop('writer_100');
    expect(document.activeElement).toBe(button('Undo'));
    expect(toast()?.textContent).toContain('Deleted 2 chats.');
    pass(5_000);
    expect(deletions()).toEqual([]);
    act(() => button('Undo').click());
    expect(page.client.state.pending).toEqual([]);
  });

  it('and is refused, is told, and can be tried again', () => {
    pass(6_100);
    act(() => page.backend.refuse(deletions()[0]?.message_id ?? '', 'unavailable', 'not now'));
    expect(toast()?.textContent).toContain('“Trip plan” could not be deleted. Not now.');
    act(() => button('Try again').click());
    expect(deletions()).toHaveLength(2);
    expect(toast()).toBeNull();
  });

  it('by another is told to who looks at it', async () => {
    const gone = { reason: 'deleted', replaced_by: null } as const;
    act(() => page.frontend.receive(event('session_closed', gone)));
    show(<EndedBanner sessionId={SESSION} draft={() => 'half a thought'} />);
    expect(root.textContent).toContain('This chat was deleted.');
    act(() => button('Start a new chat with Helper').click());
    const create = page.managed('create')[0]?.message_id ?? '';
    page.backend.reply(create, { session_id: 'helper_500', epoch: 'e9', seq: 1 });
    await act(() => answered());
    expect(page.client.drafts.draft('helper_500')).toBe('half a thought');
  });
});

describe('what is found in messages', () => {
  const asked = () => page.managed('search').at(-1)?.message_id ?? '';
  const hit = { session_id: SESSION, title: null, seq: 12, excerpt: '<b>the</b> Trip plan' };

  async function search(query: string, reply: object): Promise<void> {
    await act(async () => {
      void page.client.queries.search(query);
      page.backend.reply(asked(), reply);
      await answered();
    });
  }

  beforeEach(() => page.openSession('Rome'));

  it('is shown with its words marked, and leads to its message', async () => {
    await search('trip', { hits: [hit], next_cursor: null });
    show(<MessageHits />);
    const link = find<HTMLAnchorElement>('a');
    expect(link.getAttribute('href')).toBe(`#/s/${SESSION}?at=12`);
    expect(link.textContent).toBe('Rome<b>the</b> Trip plan');
    expect([...root.querySelectorAll('mark')].map((mark) => mark.textContent)).toEqual(['Trip']);
    expect(root.querySelector('button')).toBeNull();
  });

  it('has more, and says where it is behind', async () => {
    const reply = { hits: [hit], next_cursor: 'c', indexed_to: '2026-11-21T10:00:00.000Z' };
    await search('trip', reply);
    show(<MessageHits />);
    expect(root.textContent).toMatch(/Messages since .* are not searched yet/);
    act(() => button('More').click());
    expect(page.managed('search').at(-1)?.data).toMatchObject({ cursor: 'c' });
    expect(button('More').disabled).toBe(true);
  });

  it('is nothing, or not to be had', async () => {
    await search('trip', { hits: [], next_cursor: null });
    show(<MessageHits />);
    expect(root.textContent).toContain('No message has “trip”');
    await act(async () => {
      void page.client.queries.search('tripod');
      page.backend.refuse(asked(), 'unavailable', 'not now');
      await answered();
    });
    expect(root.textContent).toContain('Messages could not be searched: not now');
    act(() => button('Try again').click());
    expect(page.managed('search')).toHaveLength(3);
  });

  it('is not what is being deleted', async () => {
    await search('trip', { hits: [hit], next_cursor: null });
    show(<MessageHits />);
    act(() => page.client.deleteSession(SESSION));
    expect(root.querySelector('a')).toBeNull();
    act(() => page.client.undoDeletions());
    expect(root.querySelector('a')).not.toBeNull();
  });
});

it('tells why a chat could not be forked', async () => {
  page.openSession('Rome');
  act(() => page.frontend.receive(userMessage(3, 'Hi', { run: 'r1' })));
  const item = page.client.state.views.get(SESSION)?.items.at(-1);
  if (!item) throw new Error('no item');
  show(<ForkButton sessionId={SESSION} item={item} />);
  const fork = find<HTMLButtonElement>('button');
  act(() => fork.click());
  act(() => fork.click());
  expect(page.managed('history')).toHaveLength(1);
  expect(fork.getAttribute('aria-busy')).toBe('true');
  await act(async () => {
    page.backend.refuse(page.managed('history')[0]?.message_id ?? '', 'unavailable', 'not now');
    await answered();
  });
  expect(warning.value).toBe('Could not fork the chat: not now');
  expect(fork.getAttribute('aria-busy')).toBe('false');
});
