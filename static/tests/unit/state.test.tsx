// @vitest-environment happy-dom

import { act } from 'preact/test-utils';
import { beforeEach, describe, expect, it } from 'vitest';
import type { PatchOperation } from '../../src/client/wire.gen';
import { StatePanel } from '../../src/ui/state/StatePanel';
import { event, SESSION } from './helpers';
import { answered, button, find, onScreen, page, pass, press, root, show } from './screen';

onScreen();

let version = 0;

function change(...patch: PatchOperation[]): void {
  version++;
  const data = { version, patch };
  act(() => page.frontend.receive(event('state.patch', data, { seq: version + 2 })));
}

const replace = (value: unknown) => change({ op: 'replace', path: '', value });
const updates = () => page.backend.sentOf('update_state');
const labelled = (label: string) => find<HTMLButtonElement>(`[aria-label="${label}"]`);

beforeEach(() => {
  version = 0;
  page.openSession('x');
  show(<StatePanel sessionId={SESSION} />);
});

describe('any document', () => {
  const value = { topic: 'Rome', days: [1, 2], stay: { hotel: { stars: 3 } }, empty: [] };

  it('is a tree of which the deeper parts are closed', () => {
    replace(value);
    const lines = [...root.querySelectorAll('.tree > li')].map((line) => line.textContent);
    expect(lines).toEqual(['topic: "Rome"', 'days [2]0: 11: 2', 'stay {1}hotel {1}', 'empty: []']);
  });

  it('has what changes marked for a moment, and nothing else', () => {
    replace(value);
    const marked = () => [...root.querySelectorAll('.is-changed')].map((part) => part.textContent);
    expect(marked()).toEqual([]);
    change({ op: 'replace', path: '/topic', value: 'Paris' });
    expect(marked()).toEqual(['"Paris"']);
    pass(1_500);
    expect(marked()).toEqual([]);
  });

  it('shows a long list in parts', () => {
    replace(Array.from({ length: 250 }, (_, index) => index));
    const count = () => root.querySelectorAll('.tree-value').length;
    expect(count()).toBe(100);
    act(() => button('150 more').click());
    act(() => button('50 more').click());
    expect(count()).toBe(250);
  });

  it.each([[null], ['text'], [7], [[]], [{}]])('is shown where it is only %j', (plain) => {
    replace(plain);
    expect(find('.tree').textContent).toBe(JSON.stringify(plain));
  });
});

describe('a combat tracker', () => {
  const goblin = { name: 'Goblin', initiative: 14, hp: 7, max_hp: 7, conditions: ['prone'] };
  const mira = { name: 'Mira', initiative: 18, hp: 20, max_hp: 24, conditions: [] };
  const cell = (row: number, selector: string) =>
    root.querySelectorAll('tbody tr')[row]?.querySelector(selector)?.textContent;

  beforeEach(() => replace({ round: 2, turn: 1, combatants: [mira, goblin] }));

  it('is a table, with the turn marked', () => {
    expect(find('h2').textContent).toBe('Round 2');
    expect(cell(0, '.initiative')).toBe('18');
    expect(cell(1, '.hp span')).toBe('7 / 7');
    expect(find('tr[aria-current]').textContent).toContain('Goblinits turn');
    expect(cell(1, '.conditions')).toContain('prone');
  });

  it('changes hit points by one, or by as many as are asked for', () => {
    act(() => labelled('Goblin loses hit points').click());
    expect(updates()[0]).toMatchObject({
      session_id: SESSION,
      data: { if_version: 1, patch: [{ op: 'test' }, { path: '/combatants/1/hp', value: 6 }] },
    });
    page.backend.reply(updates()[0]?.message_id ?? '', { version: 2 });
    const [field] = root.querySelectorAll<HTMLInputElement>('input[type=number]');
    if (field) field.value = '3';
    act(() => labelled('Mira gains hit points').click());
    expect(updates()[1]?.data).toMatchObject({
      patch: [{ op: 'test' }, { path: '/combatants/0/hp', value: 23 }],
    });
  });

  it('adds a condition once, by Enter, and none by Escape', () => {
    const add = () => act(() => labelled('Add a condition to Mira').click());
    const field = () => labelled('A condition for Mira') as unknown as HTMLInputElement;
    add();
    expect(document.activeElement).toBe(field());
    field().value = ' blind ';
    press(field(), 'Escape');
    expect(document.activeElement).toBe(labelled('Add a condition to Mira'));
    add();
    field().value = ' blind ';
    press(field(), 'Enter');
    expect(updates()).toHaveLength(1);
    expect(updates()[0]?.data).toMatchObject({
      patch: [{ op: 'test' }, { op: 'add', path: '/combatants/0/conditions/-', value: 'blind' }],
    });
  });

  it('keeps the focus near to a condition that goes', () => {
    act(() => labelled('Remove prone from Goblin').focus());
    change({ op: 'remove', path: '/combatants/1/conditions/0' });
    expect(document.activeElement).toBe(labelled('Add a condition to Goblin'));
  });

  it('cannot be changed in a chat that is closed', () => {
    const closed = { reason: 'closed', replaced_by: null } as const;
    act(() => page.frontend.receive(event('session_closed', closed, { seq: 4 })));
    expect(root.querySelector('button')).toBeNull();
    expect(cell(1, '.hp span')).toBe('7 / 7');
  });

  describe('that somebody else changes at the same time', () => {
    const refuse = async (index: number, code: string, known?: number) => {
      const details = known === undefined ? {} : { version: known };
      const error = { code, message: `not that: ${code}`, details, retryable: false };
      const reply_to = updates()[index]?.message_id ?? '';
      await act(async () => {
        page.backend.receive({ v: 1, type: 'reply', reply_to, ok: false, error });
        await answered(10);
      });
    };
    const problem = () => find('.inline-problem').textContent;

    beforeEach(() => act(() => labelled('Goblin loses hit points').click()));

    it('is changed on what they made of it, when that has come', async () => {
      await refuse(0, 'conflict', 2);
      expect(updates()).toHaveLength(1);
      change({ op: 'replace', path: '/combatants/1/hp', value: 4 });
      await act(() => answered(10));
      expect(updates()[1]?.data).toMatchObject({
        if_version: 2,
        patch: [{ op: 'test' }, { value: 3 }],
      });
      expect(problem()).toBe('');
    });

    it('says so the second time', async () => {
      change({ op: 'replace', path: '/combatants/1/hp', value: 4 });
      await refuse(0, 'conflict', 2);
      await refuse(1, 'conflict', 3);
      expect(updates()).toHaveLength(2);
      expect(problem()).toContain('changed at the same time by somebody else');
    });

    it('says so where what they made does not come', async () => {
      await refuse(0, 'conflict', 2);
      pass(3_000);
      await act(() => answered(10));
      expect(updates()).toHaveLength(1);
      expect(problem()).toContain('changed at the same time');
    });

    it('says what else is wrong', async () => {
      await refuse(0, 'payload_too_large');
      expect(problem()).toBe('Not that: payload_too_large.');
    });
  });
});
