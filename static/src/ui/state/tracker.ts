/** A document that is a combat tracker: how it is told, and the patches that its buttons make. Pure. */

import type { PatchOperation } from '../../client/wire.gen';

export interface Combatant {
  name: string;
  initiative: number;
  hp: number;
  max_hp: number;
  conditions: string[];
}

export interface Tracker {
  combatants: Combatant[];
  round?: number;
  /** Whose turn it is, by place in the list. */
  turn?: number;
}

/** The tracker that a document is, if it is one. */
export function trackerOf(value: unknown): Tracker | undefined {
  if (!isObject(value)) return undefined;
  const { combatants, round, turn } = value;
  if (!Array.isArray(combatants) || !combatants.every(isCombatant)) return undefined;
  if (!isMaybeNumber(round) || !isMaybeNumber(turn)) return undefined;
  return value as unknown as Tracker;
}

function isCombatant(value: unknown): value is Combatant {
  if (!isObject(value)) return false;
  const { name, initiative, hp, max_hp: maxHp, conditions } = value;
  const areNumbers = [initiative, hp, maxHp].every((part) => typeof part === 'number');
  return areNumbers && isText(name) && Array.isArray(conditions) && conditions.every(isText);
}

function isText(value: unknown): boolean {
  return typeof value === 'string';
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function isMaybeNumber(value: unknown): boolean {
  return value === undefined || typeof value === 'number';
}

/** What a button makes of the tracker as it is then; `undefined` where there is nothing to be done any more. */
export type Change = (tracker: Tracker) => PatchOperation[] | undefined;

/** So many hit points more, or less: never below none, nor above what there may be. */
export function changeHp(who: Who, by: number): Change {
  return onCombatant(who, ({ hp, max_hp: most }, path) => {
    const value = Math.max(0, Math.min(Math.max(most, hp), hp + by));
    return value === hp ? undefined : [{ op: 'replace', path: `${path}/hp`, value }];
  });
}

export function addCondition(who: Who, condition: string): Change {
  return onCombatant(who, ({ conditions }, path) =>
    conditions.includes(condition)
      ? undefined
      : [{ op: 'add', path: `${path}/conditions/-`, value: condition }],
  );
}

export function removeCondition(who: Who, condition: string): Change {
  return onCombatant(who, ({ conditions }, path) => {
    const at = `${path}/conditions/${conditions.indexOf(condition)}`;
    if (!conditions.includes(condition)) return undefined;
    return [
      { op: 'test', path: at, value: condition },
      { op: 'remove', path: at },
    ];
  });
}

export const nextTurn: Change = ({ combatants, round = 1, turn }) => {
  if (combatants.length === 0) return undefined;
  const next = turn === undefined ? 0 : (turn + 1) % combatants.length;
  const isNewRound = turn !== undefined && next === 0;
  return [
    // Puts it there, whether or not there was one.
    { op: 'add', path: '/turn', value: next },
    { op: 'add', path: '/round', value: isNewRound ? round + 1 : round },
  ];
};

/** Somebody in the list, by what is known of them: several may have the same name. */
export interface Who {
  name: string;
  index: number;
}

type OnCombatant = (combatant: Combatant, path: string) => PatchOperation[] | undefined;

/** They may have changed places since. */
function onCombatant({ name, index }: Who, change: OnCombatant): Change {
  return ({ combatants }) => {
    const isThere = combatants[index]?.name === name;
    const at = isThere ? index : combatants.findIndex((combatant) => combatant.name === name);
    const combatant = combatants[at];
    const path = `/combatants/${at}`;
    const patch = combatant && change(combatant, path);
    return patch && [{ op: 'test', path: `${path}/name`, value: name }, ...patch];
  };
}
