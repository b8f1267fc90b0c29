/** Any JSON as a tree that opens and closes; what has changed is marked for a moment. */

import { useSignal } from '@preact/signals';
import { useChanged } from './changed';

/** Deeper parts are closed at first. */
const OPEN_DEPTH = 2;
/** Parts of a list that are shown at once; more on demand. */
const STEP = 100;

export function Tree({ value }: { value: unknown }) {
  return (
    <ul class="tree">
      {isBranch(value) && Object.keys(value).length > 0 ? (
        <Parts value={value} depth={1} />
      ) : (
        <Leaf value={value} />
      )}
    </ul>
  );
}

function isBranch(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

function Parts({ value, depth }: { value: object; depth: number }) {
  const shown = useSignal(STEP);
  const parts = Object.entries(value);
  return (
    <>
      {parts.slice(0, shown.value).map(([name, part]) => (
        <Part key={name} name={name} value={part} depth={depth} />
      ))}
      {parts.length > shown.value && (
        <li>
          <button type="button" class="link" onClick={() => (shown.value += STEP)}>
            {parts.length - shown.value} more
          </button>
        </li>
      )}
    </>
  );
}

interface PartProps {
  name: string;
  value: unknown;
  depth: number;
}

function Part({ name, value, depth }: PartProps) {
  if (isBranch(value) && Object.keys(value).length > 0) {
    return <Branch name={name} value={value} depth={depth} />;
  }
  return <Leaf name={name} value={value} />;
}

function Branch({ name, value, depth }: PartProps & { value: object }) {
  const open = useSignal(depth < OPEN_DEPTH);
  const count = Object.keys(value).length;
  return (
    <li>
      <details
        open={open.value}
        onToggle={({ currentTarget }) => (open.value = currentTarget.open)}
      >
        <summary>
          <span class="tree-name">{name}</span>{' '}
          <span class="tree-count">{Array.isArray(value) ? `[${count}]` : `{${count}}`}</span>
        </summary>
        {open.value && (
          <ul>
            <Parts value={value} depth={depth + 1} />
          </ul>
        )}
      </details>
    </li>
  );
}

function Leaf({ name, value }: { name?: string; value: unknown }) {
  const text = JSON.stringify(value);
  const isChanged = useChanged(text);
  return (
    <li>
      {name !== undefined && <span class="tree-name">{name}: </span>}
      <span class={`tree-value is-${typeof value}${isChanged ? ' is-changed' : ''}`} dir="auto">
        {text}
      </span>
    </li>
  );
}
