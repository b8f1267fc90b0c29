/** A tool's call as a card that opens: how it stands, what it was called with, what came of it. */

import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { awaitsApproval, type ToolItem } from '../../client/items';
import { Icon } from '../Icon';
import { person } from '../names';
import { useView } from '../store';
import { duration } from '../time';
import { ApprovalForm } from './ApprovalForm';
import { Since } from './clocks';
import { Value } from './Value';

interface Props {
  sessionId: string;
  item: ToolItem;
}

export function ToolCall({ sessionId, item }: Props) {
  const runId = useView(sessionId, (view) => view.run?.id);
  const waits = awaitsApproval(item, runId);
  const open = useSignal(waits);
  const summary = useRef<HTMLElement>(null);
  const status = statusOf(item, runId);

  useEffect(() => {
    if (waits) open.value = true;
  }, [waits]);

  return (
    <details
      class={`tool is-${status}`}
      open={open.value}
      onToggle={({ currentTarget }) => (open.value = currentTarget.open)}
    >
      <summary ref={summary}>
        <Icon name="tool" />
        <code>{item.name}</code>
        <span class="tool-status">
          <span class="dot" aria-hidden="true" />
          {WORDS[status]}
          <Took item={item} status={status} />
        </span>
        <Icon name="down" />
      </summary>
      {/* Results may be long, and most are never looked at. */}
      {open.value && (
        <div class="tool-body">
          {waits && (
            <ApprovalForm
              sessionId={sessionId}
              item={item}
              onGone={() => summary.current?.focus({ preventScroll: true })}
            />
          )}
          <Settled item={item} />
          {item.args !== undefined && <Value label="Arguments" value={item.args} />}
          <Outcome item={item} />
        </div>
      )}
    </details>
  );
}

type Status = keyof typeof WORDS;

const WORDS = {
  waiting: 'waiting for approval',
  running: 'running',
  done: 'done',
  failed: 'failed',
  denied: 'denied',
  cancelled: 'cancelled',
  lost: 'not finished',
};

function statusOf(item: ToolItem, currentRun: string | undefined): Status {
  const { outcome, approval, runId } = item;
  if (approval?.settled?.decision === 'denied') return 'denied';
  if (outcome?.error) {
    return outcome.error.details['reason'] === 'cancelled' ? 'cancelled' : 'failed';
  }
  if (outcome) return 'done';
  if (awaitsApproval(item, currentRun)) return 'waiting';
  return runId === currentRun ? 'running' : 'lost';
}

/** How long it took, or takes; without the time in which it waited to be allowed. */
function Took({ item, status }: { item: ToolItem; status: Status }) {
  const { outcome, approval, at } = item;
  if (status === 'running') return <Since at={approval?.settled?.at ?? at} />;
  // What was stopped or denied before it began took no time.
  if (!outcome || (outcome.error && outcome.durationMs === 0)) return null;
  return <span class="tool-time">{duration(outcome.durationMs)}</span>;
}

/** Who decided, and what. */
function Settled({ item: { approval } }: { item: ToolItem }) {
  if (!approval?.settled) return null;
  const { decision, by, reason, args } = approval.settled;
  const what = decision === 'approved' ? 'Approved' : 'Denied';
  const how = decision === 'approved' && args !== undefined ? ' with other arguments' : '';
  return (
    <>
      <p class="tool-decision">
        <Icon name={decision === 'approved' ? 'check' : 'close'} />
        <span dir="auto">
          {by === null ? `${what}: nobody answered in time` : `${what} by ${person(by)}${how}`}
          {by !== null && reason && `: ${reason}`}
        </span>
      </p>
      {args !== undefined && <Value label="Called with" value={args} />}
    </>
  );
}

function Outcome({ item: { outcome } }: { item: ToolItem }) {
  if (!outcome) return null;
  const { error, result } = outcome;
  if (error) return <Value label="Error" value={error.message} isError />;
  return <Value label="Result" value={result} />;
}
