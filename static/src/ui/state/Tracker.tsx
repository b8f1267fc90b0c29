/** A combat tracker: who is next, how they are, and the buttons to change that. */

import { useSignal } from '@preact/signals';
import { useLayoutEffect, useRef } from 'preact/hooks';
import { Icon } from '../Icon';
import { sound } from '../notices';
import { sentence } from '../names';
import { useStore } from '../store';
import { changeState } from './change';
import { useChanged } from './changed';
import {
  addCondition,
  changeHp,
  nextTurn,
  removeCondition,
  trackerOf,
  type Change,
  type Combatant,
  type Who,
  type Tracker as TrackerState,
} from './tracker';

interface Props {
  sessionId: string;
  tracker: TrackerState;
  canChange: boolean;
}

export function Tracker({ sessionId, tracker, canChange }: Props) {
  const { client } = useStore();
  const problem = useSignal('');
  const { combatants, round, turn } = tracker;

  const does = canChange
    ? async (change: Change) => {
        const failed = await changeState(client, sessionId, (value) => {
          const now = trackerOf(value);
          return now && change(now);
        });
        problem.value = failed === undefined ? '' : sentence(failed);
        if (failed !== undefined) sound(problem.value);
      }
    : undefined;

  return (
    <>
      <div class="tracker-head">
        <h2>{round === undefined ? 'Combat' : `Round ${round}`}</h2>
        {does && combatants.length > 0 && (
          <button type="button" class="button small" onClick={() => void does(nextTurn)}>
            Next turn
          </button>
        )}
      </div>
      <p class="inline-problem">{problem.value}</p>
      {combatants.length === 0 && <p class="hint">Nobody is fighting.</p>}
      <table class="tracker" hidden={combatants.length === 0}>
        <caption class="visually-hidden">Order of initiative</caption>
        <thead>
          <tr>
            <th scope="col">
              <abbr title="Initiative">Init</abbr>
            </th>
            <th scope="col">Name</th>
            <th scope="col">Hit points</th>
          </tr>
        </thead>
        <tbody>
          {combatants.map((combatant, index) => (
            <Row
              key={keyOf(combatants, index)}
              combatant={combatant}
              who={{ name: combatant.name, index }}
              isTurn={index === turn}
              does={does && ((change) => void does(change))}
            />
          ))}
        </tbody>
      </table>
    </>
  );
}

/** Several may have the same name. */
function keyOf(combatants: readonly Combatant[], index: number): string {
  const name = combatants[index]?.name ?? '';
  const before = combatants.slice(0, index).filter((other) => other.name === name);
  return `${before.length} ${name}`;
}

interface RowProps {
  combatant: Combatant;
  who: Who;
  isTurn: boolean;
  /** `undefined` where nothing can be changed. */
  does: ((change: Change) => void) | undefined;
}

function Row({ combatant, who, isTurn, does }: RowProps) {
  const { name, initiative } = combatant;
  return (
    <tr class={isTurn ? 'is-turn' : ''} aria-current={isTurn || undefined}>
      <td class="initiative">{initiative}</td>
      <th scope="row">
        <span dir="auto">{name}</span>
        {isTurn && <span class="turn">its turn</span>}
        <Conditions combatant={combatant} who={who} does={does} />
      </th>
      <td>
        <HitPoints combatant={combatant} who={who} does={does} />
      </td>
    </tr>
  );
}

type CellProps = Pick<RowProps, 'combatant' | 'who' | 'does'>;

function HitPoints({ combatant: { name, hp, max_hp: most }, who, does }: CellProps) {
  const amount = useRef<HTMLInputElement>(null);
  const isChanged = useChanged(hp);
  const part = most > 0 ? hp / most : 0;
  const level = part <= 0.25 ? 'is-full' : part <= 0.5 ? 'is-high' : '';
  const change = (sign: 1 | -1) => {
    const by = Math.abs(Math.trunc(amount.current?.valueAsNumber ?? 1)) || 1;
    does?.(changeHp(who, sign * by));
  };
  return (
    <>
      <div class={`hp ${level}${isChanged ? ' is-changed' : ''}`}>
        <meter min={0} max={Math.max(most, 1)} value={hp} aria-label={`Hit points of ${name}`}>
          {hp} of {most}
        </meter>
        <span>
          {hp} / {most}
        </span>
      </div>
      {does && (
        <div class="hp-buttons">
          <button
            type="button"
            class="icon-button"
            aria-label={`${name} loses hit points`}
            onClick={() => change(-1)}
          >
            −
          </button>
          <input
            ref={amount}
            type="number"
            min={1}
            defaultValue="1"
            aria-label={`How many, for ${name}`}
          />
          <button
            type="button"
            class="icon-button"
            aria-label={`${name} gains hit points`}
            onClick={() => change(1)}
          >
            +
          </button>
        </div>
      )}
    </>
  );
}

function Conditions({ combatant: { name, conditions }, who, does }: CellProps) {
  const adding = useSignal(false);
  const list = useRef<HTMLUListElement>(null);
  const field = useRef<HTMLInputElement>(null);
  const wasAdding = useRef(false);
  const focusButton = () => list.current?.querySelector<HTMLElement>('.add-condition')?.focus();

  useLayoutEffect(() => {
    if (adding.value) field.current?.focus();
    // The field had the focus, and has gone.
    else if (wasAdding.current) focusButton();
    wasAdding.current = adding.value;
  }, [adding.value]);

  const add = () => {
    const condition = field.current?.value.trim() ?? '';
    if (condition !== '') does?.(addCondition(who, condition));
    finish();
  };
  const finish = () => {
    // It loses the focus as it goes, which would add it once more.
    if (field.current) field.current.value = '';
    adding.value = false;
  };
  return (
    <ul ref={list} class="conditions" aria-label={`Conditions of ${name}`}>
      {[...new Set(conditions)].map((condition) => (
        <li key={condition} class="chip" dir="auto">
          {condition}
          {does && (
            <RemoveButton
              label={`Remove ${condition} from ${name}`}
              onClick={() => does(removeCondition(who, condition))}
              onGone={focusButton}
            />
          )}
        </li>
      ))}
      {does && (
        <li>
          {adding.value ? (
            <input
              ref={field}
              aria-label={`A condition for ${name}`}
              maxLength={60}
              onBlur={add}
              onKeyDown={(event) => {
                if (event.isComposing || event.keyCode === 229) return;
                if (event.key !== 'Enter' && event.key !== 'Escape') return;
                // The button that takes the field's place must not be pressed by the same key.
                event.preventDefault();
                if (event.key === 'Enter') add();
                else finish();
              }}
            />
          ) : (
            <button
              type="button"
              class="icon-button add-condition"
              aria-label={`Add a condition to ${name}`}
              title="Add a condition"
              onClick={() => (adding.value = true)}
            >
              <Icon name="plus" />
            </button>
          )}
        </li>
      )}
    </ul>
  );
}

interface RemoveProps {
  label: string;
  onClick(): void;
  /** It has gone, and had the focus. */
  onGone(): void;
}

function RemoveButton({ label, onClick, onGone }: RemoveProps) {
  const button = useRef<HTMLButtonElement>(null);
  useLayoutEffect(
    () => () => {
      if (button.current === document.activeElement) onGone();
    },
    [],
  );
  return (
    <button ref={button} type="button" class="icon-button" aria-label={label} onClick={onClick}>
      <Icon name="close" />
    </button>
  );
}
