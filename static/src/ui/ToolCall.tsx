/** A tool's call, as one line that opens. */

import type { Item } from '../client/state';
import { Icon } from './Icon';

type ToolItem = Extract<Item, { kind: 'tool' }>;

export function ToolCall({ item: { name, args, outcome } }: { item: ToolItem }) {
  const failed = outcome?.error !== undefined;
  return (
    <details class="tool">
      <summary>
        <Icon name="tool" />
        <code>{name}</code>
        <span class={failed ? 'is-error' : ''}>{describe(outcome)}</span>
      </summary>
      {args !== undefined && <Value label="Arguments" value={args} />}
      {outcome && (
        <Value
          label={failed ? 'Error' : 'Result'}
          value={outcome.error?.message ?? outcome.result}
        />
      )}
    </details>
  );
}

function describe(outcome: ToolItem['outcome']): string {
  if (!outcome) return 'called…';
  return `${outcome.error ? 'failed' : 'done'} in ${outcome.durationMs} ms`;
}

function Value({ label, value }: { label: string; value: unknown }) {
  return (
    <>
      <p>{label}</p>
      {/* oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- it scrolls, so it must be reachable */}
      <pre tabIndex={0} aria-label={label}>
        {typeof value === 'string' ? value : JSON.stringify(value, null, 2)}
      </pre>
    </>
  );
}
