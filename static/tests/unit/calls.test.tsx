// @vitest-environment happy-dom

import { act } from 'preact/test-utils';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { Announcer } from '../../src/ui/Announcer';
import { ToolCall } from '../../src/ui/calls/ToolCall';
import { Suggestions } from '../../src/ui/calls/Suggestions';
import { leftText } from '../../src/ui/calls/clocks';
import { beginningOf } from '../../src/ui/calls/Value';
import { useView } from '../../src/ui/store';
import { duration } from '../../src/ui/time';
import { event, runFinished, runStarted, SESSION, userMessage } from './helpers';
import { answered, button, find, onScreen, page, pass, press, root, show } from './screen';

onScreen();

const CALL = { message_id: 's1', tool_call_id: 't1', tool_name: 'clock' };
const at = (ms: number) => new Date(ms).toISOString();

/** The last call of the session, as it is now. */
function LastCall() {
  const item = useView(SESSION, (view) => view.items.findLast(({ kind }) => kind === 'tool'));
  return item?.kind === 'tool' ? <ToolCall sessionId={SESSION} item={item} /> : null;
}

const receive = (frame: object) => act(() => page.frontend.receive(frame));
const summary = () => find('summary').textContent;
const body = () => root.querySelector('.tool-body')?.textContent ?? '';

function call(args: unknown = { zone: 'utc' }): void {
  page.openSession('x');
  page.frontend.receive(userMessage(3, 'Hi', { run: 'r1' }));
  page.frontend.receive(runStarted(4, 'r1'));
  const started = event('tool_call.start', { ...CALL, args }, { seq: 5, run: 'r1' });
  page.frontend.receive({ ...started, timestamp: at(Date.now()) });
}

function ask(seconds = 600): void {
  const expires_at = at(Date.now() + seconds * 1_000);
  const { tool_call_id, tool_name } = CALL;
  const data = { tool_call_id, tool_name, expires_at };
  receive(event('approval_requested', data, { seq: 6, run: 'r1' }));
}

function end(seq: number, more: object): void {
  const data = { ...CALL, duration_ms: 1_234, ...more } as never;
  receive(event('tool_call.end', data, { seq, run: 'r1' }));
}

function open(): void {
  act(() => {
    find<HTMLDetailsElement>('details').open = true;
    find('details').dispatchEvent(new Event('toggle'));
  });
}

describe('a call', () => {
  beforeEach(() => {
    call();
    show(<LastCall />);
  });

  it('shows how long it takes, and in the end how long it took', () => {
    expect(summary()).toBe('clockrunning');
    pass(3_000);
    expect(summary()).toBe('clockrunning3 s');
    end(6, { result: 'noon' });
    expect(summary()).toBe('clockdone1.2 s');
    expect(body()).toBe('');
    open();
    expect(body()).toContain('"zone": "utc"');
    expect(body()).toContain('noon');
  });

  it('tells of a failure, and of what was stopped', () => {
    const error = { code: 'tool_error', message: 'no such zone', details: {} };
    end(6, { error });
    expect(summary()).toBe('clockfailed1.2 s');
    open();
    expect(find('.tool-value.is-error').textContent).toContain('no such zone');
  });

  it('was cancelled where its run was stopped', () => {
    const details = { reason: 'cancelled' };
    const error = { code: 'tool_error', message: 'the run was stopped', details };
    end(6, { error, duration_ms: 0 });
    expect(summary()).toBe('clockcancelled');
  });

  it('does not go on when its run does not', () => {
    receive(runFinished(6, 'r1', 'interrupted', 'crashed'));
    expect(summary()).toBe('clocknot finished');
  });

  it('shows the beginning of a long result, and all of it when asked', () => {
    const lines = Array.from({ length: 30 }, (_, index) => `line ${index + 1}`);
    end(6, { result: lines.join('\n') });
    open();
    expect(body()).toContain('line 20');
    expect(body()).not.toContain('line 21');
    act(() => button('Show all (30 lines)').click());
    expect(body()).toContain('line 30');
    act(() => button('Show less').click());
    expect(body()).not.toContain('line 21');
  });
});

describe('a question whether a tool may be called', () => {
  const sent = () => page.backend.sentOf('tool_approval');
  const settle = (more: object) => {
    const data = { tool_call_id: 't1', decision: 'approved', by: 'local', ...more } as never;
    receive(event('approval_resolved', data, { seq: 7, run: 'r1' }));
  };
  const write = (text: string) => (find<HTMLTextAreaElement>('textarea').value = text);

  beforeEach(() => {
    call();
    show(<LastCall />);
    ask();
  });

  it('is open, says what is wanted, and for how long it can be answered', () => {
    expect(find<HTMLDetailsElement>('details').open).toBe(true);
    expect(summary()).toBe('clockwaiting for approval');
    expect(find('form').textContent).toContain('Helper wants to call clock. 10 min left to answer');
    expect(body()).toContain('"zone": "utc"');
    expect(document.activeElement).toBe(document.body);
    pass(570_000);
    expect(find('form').textContent).toContain('30 s left to answer');
    pass(60_000);
    expect(find('form').textContent).toContain('The time to answer is over');
  });

  it('is answered with yes, once', () => {
    act(() => button('Approve').click());
    act(() => button('Approve').click());
    expect(sent()).toMatchObject([
      { session_id: SESSION, data: { tool_call_id: 't1', decision: 'approve' } },
    ]);
    expect(sent()[0]?.data).not.toHaveProperty('args');
    settle({});
    expect(root.querySelector('form')).toBeNull();
    expect(find('.tool-decision').textContent).toBe('Approved by you');
    // Time that it waited does not count.
    expect(summary()).toContain('running');
  });

  it('is answered with no, and why', () => {
    act(() => button('Deny…').click());
    expect(document.activeElement).toBe(find('textarea'));
    write(' not today ');
    act(() => button('Deny').click());
    expect(sent()[0]?.data).toMatchObject({ decision: 'deny', reason: 'not today' });
    settle({ decision: 'denied', reason: 'not today' });
    expect(find('.tool-decision').textContent).toBe('Denied by you: not today');
    expect(summary()).toBe('clockdenied');
  });

  it('is answered with no, without a reason', () => {
    act(() => button('Deny…').click());
    act(() => button('Deny').click());
    expect(sent()[0]?.data).not.toHaveProperty('reason');
  });

  it('is answered with other arguments, which must be some', () => {
    act(() => button('Edit…').click());
    expect(JSON.parse(find<HTMLTextAreaElement>('textarea').value)).toEqual({ zone: 'utc' });
    for (const [text, problem] of [
      ['{zone', 'This is not JSON'],
      ['[]', 'Arguments are a JSON object'],
      ['null', 'Arguments are a JSON object'],
    ] as const) {
      write(text);
      act(() => button('Approve with these').click());
      expect(find('.inline-problem').textContent).toContain(problem);
      expect(find('textarea').getAttribute('aria-invalid')).toBe('true');
    }
    expect(sent()).toEqual([]);
    write('{"zone":"cet"}');
    act(() => button('Approve with these').click());
    expect(sent()[0]?.data).toMatchObject({ decision: 'approve', args: { zone: 'cet' } });
    settle({ args: { zone: 'cet' } });
    expect(find('.tool-decision').textContent).toBe('Approved by you with other arguments');
    expect(body()).toContain('"zone": "cet"');
  });

  it('says in place what the server does not take', async () => {
    act(() => button('Edit…').click());
    write('{"zone":1}');
    act(() => button('Approve with these').click());
    await act(async () => {
      page.backend.refuse(
        sent()[0]?.message_id ?? '',
        'invalid_field',
        'data.args/zone: a text is needed',
      );
      await answered();
    });
    expect(find('.inline-problem').textContent).toBe('zone: a text is needed');
    expect(find<HTMLTextAreaElement>('textarea').value).toBe('{"zone":1}');
    act(() => button('Approve with these').click());
    expect(sent()).toHaveLength(2);
  });

  it('makes nothing of it that somebody else was faster', async () => {
    act(() => button('Approve').click());
    await act(async () => {
      page.backend.refuse(sent()[0]?.message_id ?? '', 'conflict', 'settled');
      await answered();
    });
    expect(find('form').textContent).toContain('This has been settled already, somewhere else.');
    expect(find('.inline-problem').textContent).toBe('');
    settle({ decision: 'denied', by: null });
    expect(find('.tool-decision').textContent).toBe('Denied: nobody answered in time');
  });

  it('goes back a step with Escape, which stops nothing then', () => {
    act(() => button('Deny…').click());
    expect(press(find('textarea'), 'Escape').defaultPrevented).toBe(true);
    pass(20);
    expect(document.activeElement).toBe(button('Deny…'));
    expect(press(button('Deny…'), 'Escape').defaultPrevented).toBe(false);
  });

  it('leaves the focus where it was answered', () => {
    act(() => button('Approve').focus());
    settle({});
    expect(document.activeElement).toBe(find('summary'));
  });

  it('takes the focus from nobody when it is answered elsewhere', () => {
    settle({});
    expect(document.activeElement).toBe(document.body);
  });
});

it('says once that somebody must allow a call, and not what is left of the time', () => {
  call();
  show(<Announcer />);
  ask();
  const said = () => find('[role=status]').textContent;
  expect(said()).toBe('Helper needs your approval to call clock');
  receive(event('agent_status_change', { status: 'waiting_approval' }, { run: 'r1' }));
  pass(5_000);
  expect(said()).toBe('Helper needs your approval to call clock');
});

it('offers what may be said next', () => {
  const onChosen = vi.fn<(text: string) => void>();
  show(<Suggestions items={['More', 'Less', 'More']} onChosen={onChosen} />);
  expect(root.querySelectorAll('button')).toHaveLength(2);
  act(() => button('Less').click());
  expect(onChosen).toHaveBeenCalledWith('Less');
});

it('cuts at lines, and at letters where there are no lines', () => {
  expect(beginningOf('short')).toBe('short');
  expect(beginningOf('x\n'.repeat(20))).toBe('x\n'.repeat(19) + 'x');
  expect(beginningOf('x'.repeat(10_000))).toHaveLength(8_000);
});

it('tells times as people do', () => {
  const texts = [0, 12.4, 999, 1_000, 9_949, 9_950, 59_499, 65_000, 3_725_000].map(duration);
  const expected = ['0 ms', '12 ms', '999 ms', '1.0 s', '9.9 s', '10 s', '59 s', '1 min 5 s'];
  expect(texts).toEqual([...expected, '1 h 2 min']);
  expect([91, 90, 1, 0, -5].map(leftText)).toEqual([
    '2 min left to answer',
    '90 s left to answer',
    '1 s left to answer',
    'The time to answer is over',
    'The time to answer is over',
  ]);
});
