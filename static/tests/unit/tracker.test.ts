import { describe, expect, it } from 'vitest';
import { patched } from '../../src/client/patch';
import {
  addCondition,
  changeHp,
  nextTurn,
  removeCondition,
  trackerOf,
  type Change,
} from '../../src/ui/state/tracker';

const mira = { name: 'Mira', initiative: 18, hp: 20, max_hp: 24, conditions: [] };
const goblin = { name: 'Goblin', initiative: 14, hp: 7, max_hp: 7, conditions: ['prone', 'dazed'] };
const fight = { round: 1, turn: 0, combatants: [mira, goblin] };

/** What becomes of a fight. */
function after(change: Change, before: object = fight) {
  const tracker = trackerOf(before);
  const patch = tracker && change(tracker);
  return patch && trackerOf(patched(before, patch));
}

const who = { name: 'Goblin', index: 1 };

describe('a document', () => {
  it.each([
    ['a fight', fight],
    ['a fight that has not begun', { combatants: [] }],
    ['a fight with something more', { ...fight, place: 'a bridge' }],
  ])('is %s', (_, value) => expect(trackerOf(value)).toBe(value));

  it.each([
    ['nothing', null],
    ['a list', [mira]],
    ['a text', 'combatants'],
    ['a fight of nobody knows whom', { combatants: 'all' }],
    ['a fight in which somebody has no hit points', { combatants: [{ ...mira, hp: undefined }] }],
    ['a fight with a condition that is none', { combatants: [{ ...mira, conditions: [1] }] }],
    ['a fight with a turn that is none', { ...fight, turn: 'Mira' }],
  ])('that is %s is shown as what it is', (_, value) => expect(trackerOf(value)).toBeUndefined());
});

describe('hit points', () => {
  const hp = (by: number) => after(changeHp(who, by))?.combatants[1]?.hp;

  it('go up and down, and never beyond what there can be', () => {
    expect([hp(-3), hp(-100)]).toEqual([4, 0]);
    expect(after(changeHp({ name: 'Mira', index: 0 }, 100))?.combatants[0]?.hp).toBe(24);
  });

  it('that do not change are not sent', () => {
    expect(changeHp(who, 1)(fight)).toBeUndefined();
  });

  it('above what there can be are not taken away by healing', () => {
    const blessed = { combatants: [{ ...goblin, hp: 9 }] };
    expect(changeHp({ name: 'Goblin', index: 0 }, 1)(blessed)).toBeUndefined();
  });

  it('are those of whom they were meant for, wherever that one is now', () => {
    const moved = { ...fight, combatants: [goblin, mira] };
    expect(after(changeHp(who, -3), moved)?.combatants[0]?.hp).toBe(4);
    const twins = { combatants: [goblin, goblin] };
    expect(after(changeHp(who, -3), twins)?.combatants.map(({ hp: left }) => left)).toEqual([7, 4]);
    expect(after(changeHp(who, -3), { combatants: [mira] })).toBeUndefined();
  });
});

describe('conditions', () => {
  it('come and go', () => {
    expect(after(addCondition(who, 'blind'))?.combatants[1]?.conditions).toEqual([
      'prone',
      'dazed',
      'blind',
    ]);
    expect(after(removeCondition(who, 'prone'))?.combatants[1]?.conditions).toEqual(['dazed']);
  });

  it('that are there, or are gone, are left as they are', () => {
    expect(addCondition(who, 'prone')(fight)).toBeUndefined();
    expect(removeCondition(who, 'blind')(fight)).toBeUndefined();
  });
});

describe('the turn', () => {
  it('goes round', () => {
    expect(after(nextTurn)).toMatchObject({ round: 1, turn: 1 });
    expect(after(nextTurn, { ...fight, turn: 1 })).toMatchObject({ round: 2, turn: 0 });
  });

  it('begins where there was none, and not where nobody is', () => {
    expect(after(nextTurn, { combatants: [mira] })).toMatchObject({ round: 1, turn: 0 });
    expect(after(nextTurn, { combatants: [] })).toBeUndefined();
  });
});
