// @vitest-environment happy-dom

import { act } from 'preact/test-utils';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { fold } from '../../src/client/fold';
import { listedSessions } from '../../src/client/sessions';
import { initialState } from '../../src/client/state';
import type { ServerFrame } from '../../src/client/wire';
import type { Task } from '../../src/client/wire.gen';
import { warning } from '../../src/ui/notices';
import { goTo } from '../../src/ui/route';
import { TaskBar } from '../../src/ui/tasks/TaskBar';
import { TasksPage } from '../../src/ui/tasks/TasksPage';
import { session, task } from './helpers';
import { answered, button, find, onScreen, page, pass, root, show } from './screen';

onScreen();

const at = (seconds: number) => new Date(seconds * 1_000).toISOString();

function listChange(data: object): object {
  const frame = { v: 1, type: 'session_list_changed', message_id: 'm', timestamp: '', data };
  return frame;
}

function tell(of: Task): object {
  return listChange(session({ session_id: of.session_id, agent_id: of.agent_id, task: of }));
}

describe('what is heard of tasks', () => {
  const hear = (state: ReturnType<typeof initialState>, ...frames: object[]) =>
    frames.reduce<typeof state>(
      (sum, frame) => fold(sum, { kind: 'frame', frame: frame as ServerFrame }),
      state,
    );
  const first = task({ updated_at: at(10) });
  const later = task({ updated_at: at(20), status: 'running' });

  it('is kept apart from the chats', () => {
    const state = hear(initialState(0), tell(first), listChange(session()));
    expect([...state.tasks.values()]).toEqual([first]);
    expect(listedSessions(state).map(({ session_id: id }) => id)).toEqual(['helper_417']);
  });

  it('is the newest, whichever way it came', () => {
    expect(hear(initialState(0), tell(later), tell(first)).tasks.get('worker_200')).toBe(later);
    const listed = fold(hear(initialState(0), tell(later)), {
      kind: 'tasks_arrived',
      tasks: [first],
    });
    expect(listed.tasks.get('worker_200')).toBe(later);
  });

  it('is forgotten with its session', () => {
    const gone = listChange({ session_id: 'worker_200', removed: true });
    expect(hear(initialState(0), tell(first), gone).tasks.size).toBe(0);
  });

  it('is what a list says, but for what was heard since it was asked for', () => {
    const before = hear(initialState(0), tell(first), tell(task({ session_id: 'worker_300' })));
    const news = task({ session_id: 'worker_400' });
    const now = hear(before, tell(later), tell(news));
    const state = fold(now, { kind: 'tasks_arrived', tasks: [], instead: before.tasks });
    expect([...state.tasks.keys()]).toEqual(['worker_200', 'worker_400']);
  });
});

// ---- in the page ----

interface Asked {
  method: string;
  path: string;
  body: unknown;
}

let asked: Asked[];
let answers: ((asked: Asked) => Response | undefined)[];

const list = (tasks: Task[], next: string | null = null) =>
  Response.json({ tasks, next_cursor: next });
const problem = (status: number, detail: string) =>
  Response.json({ title: 'No', status, code: 'conflict', detail, details: {} }, { status });

/** From now on, and before what was said before. */
function answer(method: string, path: RegExp, reply: () => Response): void {
  answers.unshift((ask) => (ask.method === method && path.test(ask.path) ? reply() : undefined));
}

const lastAsked = (method: string) => asked.findLast((ask) => ask.method === method);
const settled = () => act(() => answered(30));
const hear = (of: Task) => act(() => page.frontend.receive(tell(of)));
const labelled = (label: string) => find<HTMLButtonElement>(`[aria-label="${label}"]`);

beforeEach(() => {
  asked = [];
  answers = [];
  answer('GET', /^api\/v1\/tasks\?/, () => list([]));
  vi.stubGlobal('fetch', (path: string, { method, body }: { method: string; body?: string }) => {
    const ask = { method, path, body: body && (JSON.parse(body) as unknown) };
    asked.push(ask);
    const reply = answers.map((given) => given(ask)).find(Boolean);
    return reply ? Promise.resolve(reply) : Promise.reject(new Error('no network'));
  });
  page.openSession('x');
  const agent = { id: 'worker', name: 'Worker', description: '', model: '', context_window: 1 };
  const asking = page.backend.sentOf('get_agents')[0]?.message_id ?? '';
  page.backend.reply(asking, { agents: [agent] });
});

afterEach(() => {
  vi.unstubAllGlobals();
  goTo('#/');
});

async function open(...tasks: Task[]): Promise<void> {
  answer('GET', /^api\/v1\/tasks\?/, () => list(tasks));
  show(<TasksPage />);
  await settled();
}

describe('the page of tasks', () => {
  const rows = () => [...root.querySelectorAll('.task')].map((row) => row.textContent);

  it('says what a task is, where there is none', async () => {
    await open();
    expect(root.textContent).toContain('A task is something that an agent does by itself');
  });

  it('tells how each stands', async () => {
    await open(
      task({
        status: 'running',
        progress: 0.42,
        message: 'half of it',
        confidence: 0.8,
        started_at: at(0),
      }),
    );
    pass(65_000);
    expect(find('.task-word').textContent).toBe('Running');
    expect(find<HTMLProgressElement>('progress').value).toBe(0.42);
    expect(rows()[0]).toContain('42 %');
    expect(rows()[0]).toContain('half of it');
    expect(rows()[0]).toContain('Confidence 80 %');
    expect(rows()[0]).toContain('1 min 5 s');
    expect(find('.task a').getAttribute('href')).toBe('#/s/worker_200');

    const done = {
      status: 'completed',
      progress: 1,
      ended_at: at(70),
      result: '**All** sorted',
    } as const;
    hear(task({ ...done, started_at: at(0), updated_at: at(1e10) }));
    expect(find('.task-word').textContent).toBe('Completed');
    expect(root.querySelector('progress')).toBeNull();
    expect(rows()[0]).toContain('1 min 10 s');
    expect(find('.task-message').textContent).toBe('All sorted');
  });

  it('says why one has failed', async () => {
    const error = { code: 'tool_error', message: 'the post was lost', details: {} };
    await open(task({ status: 'failed', error }));
    expect(find('.task-message.is-error').textContent).toBe('The post was lost.');
  });

  it('has the newest first, and does not move them when something becomes of them', async () => {
    const old = task({ task_id: 'a', session_id: 'a', name: 'old' });
    const young = task({ task_id: 'b', session_id: 'b', name: 'young', created_at: at(2e9) });
    await open(old, young);
    const names = () => [...root.querySelectorAll('.task h2 a')].map((link) => link.textContent);
    expect(names()).toEqual(['young', 'old']);
    hear({ ...old, updated_at: at(1e10), status: 'running' });
    expect(names()).toEqual(['young', 'old']);
  });

  it('asks for those of a status, and lets others go that come to have another one', async () => {
    await open(task());
    const select = find<HTMLSelectElement>('select');
    act(() => {
      select.value = 'pending';
      select.dispatchEvent(new Event('change', { bubbles: true }));
    });
    await settled();
    expect(lastAsked('GET')?.path).toContain('status=pending');
    expect(rows()).toHaveLength(1);
    hear(task({ status: 'running', updated_at: at(1e10) }));
    expect(root.textContent).toContain('No task is like that.');
  });

  it('brings more in pages', async () => {
    answer('GET', /cursor=c1/, () => list([task({ task_id: 'b', session_id: 'b' })]));
    answer('GET', /tasks\?limit=50$/, () => list([task()], 'c1'));
    show(<TasksPage />);
    await settled();
    expect(rows()).toHaveLength(1);
    act(() => button('More').click());
    await settled();
    expect(rows()).toHaveLength(2);
  });

  it('says when it could not be loaded, and tries again', async () => {
    answers.length = 0;
    show(<TasksPage />);
    await settled();
    expect(root.textContent).toContain('The server could not be reached.');
    answer('GET', /./, () => list([task()]));
    act(() => button('Try again').click());
    await settled();
    expect(rows()).toHaveLength(1);
  });

  it('makes a task, or says why not', async () => {
    await open();
    act(() => button('New task').click());
    const write = (name: string, text: string) =>
      (find<HTMLInputElement>(`[name=${name}]`).value = text);
    expect(document.activeElement).toBe(find('[name=name]'));
    write('name', ' Sort the post ');
    write('input', 'all of it');
    answer('POST', /^api\/v1\/tasks$/, () => problem(422, 'input: too long'));
    const submit = () =>
      act(() => void find('form').dispatchEvent(new Event('submit', { cancelable: true })));
    submit();
    await settled();
    expect(find('.inline-problem').textContent).toBe('Input: too long.');
    answer('POST', /^api\/v1\/tasks$/, () => Response.json(task(), { status: 201 }));
    submit();
    await settled();
    expect(lastAsked('POST')?.body).toEqual({
      agent_id: 'worker',
      name: 'Sort the post',
      input: 'all of it',
    });
    expect(rows()).toHaveLength(1);
    expect(root.querySelector('form')).toBeNull();
    expect(document.activeElement).toBe(button('New task'));
  });
});

describe('a task', () => {
  const buttons = () =>
    [...root.querySelectorAll('.task-buttons button')].map((found) => found.textContent);
  const steers = (action: string, becomes: Partial<Task>) =>
    answer('POST', new RegExp(`^api/v1/tasks/worker_200/${action}$`), () =>
      Response.json(task({ updated_at: at(1e10), ...becomes }), { status: 202 }),
    );

  it.each<[Partial<Task>, string[]]>([
    [{ status: 'pending' }, ['Pause', 'Cancel']],
    [{ status: 'running' }, ['Pause', 'Cancel']],
    [{ status: 'running', pausing: true }, ['Resume', 'Cancel']],
    [{ status: 'paused' }, ['Resume', 'Cancel']],
    [{ status: 'completed' }, []],
    [{ status: 'failed' }, []],
    [{ status: 'cancelled' }, []],
  ])('that is %j has the buttons %j', async (more, expected) => {
    await open(task(more));
    expect(buttons()).toEqual(expected);
  });

  it('is paused, and says that it will be', async () => {
    await open(task({ status: 'running' }));
    steers('pause', { status: 'running', pausing: true });
    act(() => button('Pause').focus());
    act(() => button('Pause').click());
    await settled();
    expect(find('.task-word').textContent).toBe('Pausing…');
    expect(document.activeElement).toBe(button('Resume'));
    steers('resume', { status: 'running' });
    act(() => button('Resume').click());
    await settled();
    expect(find('.task-word').textContent).toBe('Running');
  });

  it('that cannot be paused any more says why', async () => {
    await open(task({ status: 'running' }));
    answer('POST', /pause$/, () => problem(409, 'the task has ended'));
    act(() => button('Pause').click());
    await settled();
    expect(warning.value).toBe('Could not pause the task: The task has ended.');
  });

  it('can be had as a file in each format, alone or with all others', async () => {
    await open(task());
    const files = [...root.querySelectorAll('a[download]')].map((link) =>
      link.getAttribute('href'),
    );
    const formats = ['json', 'csv', 'markdown'];
    expect(files).toEqual([
      ...formats.map((format) => `api/v1/tasks/export/${format}`),
      ...formats.map((format) => `api/v1/tasks/worker_200/export/${format}`),
    ]);
  });

  it('gets another name in place', async () => {
    await open(task());
    answer('PATCH', /worker_200$/, () =>
      Response.json(task({ name: 'Burn it', updated_at: at(1e10) })),
    );
    // Menus are the browser's own, which this imitation of one has none of.
    Object.assign(HTMLElement.prototype, { hidePopover: () => {} });
    const menu = [...root.querySelectorAll<HTMLButtonElement>('[role=menuitem]')];
    act(() => menu.find((item) => item.textContent === 'Rename')?.click());
    const field = labelled('Name of the task') as unknown as HTMLInputElement;
    field.value = 'Burn it';
    act(
      () => void field.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true })),
    );
    await settled();
    expect(lastAsked('PATCH')?.body).toEqual({ name: 'Burn it' });
    expect(find('.task h2 a').textContent).toBe('Burn it');
  });

  it('is in the head of its chat, as it is now', async () => {
    answer('GET', /^api\/v1\/tasks\/worker_200$/, () => Response.json(task({ status: 'running' })));
    show(<TaskBar sessionId="worker_200" />);
    expect(root.textContent).toBe('');
    await settled();
    expect(find('.task-name').textContent).toBe('Task ');
    expect(buttons()).toEqual(['Pause', 'Cancel']);
    hear(task({ status: 'completed', updated_at: at(1e10) }));
    expect(buttons()).toEqual([]);
  });
});
