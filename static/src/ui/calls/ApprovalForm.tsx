/** Asks whether a tool may be called: with what the agent wants, with something else, or not at all. */

import { useSignal } from '@preact/signals';
import { useEffect, useId, useLayoutEffect, useRef } from 'preact/hooks';
import type { ToolItem } from '../../client/items';
import type { ApprovalData, Refusal } from '../../client/wire.gen';
import { agentName, sentence } from '../names';
import { announce, sound } from '../notices';
import { useSelect, useStore, useView } from '../store';
import { parseArguments } from './arguments';
import { Left } from './clocks';

interface Props {
  sessionId: string;
  item: ToolItem;
  /** It has been settled while the focus was in here. */
  onGone(): void;
}

type Mode = 'ask' | 'edit' | 'deny';

export function ApprovalForm({ sessionId, item, onGone }: Props) {
  const { client } = useStore();
  const agentId = useView(sessionId, (view) => view.agentId);
  const name = useSelect((state) => agentName(state, agentId, sessionId), agentId, sessionId);
  const form = useRef<HTMLFormElement>(null);
  const text = useRef<HTMLTextAreaElement>(null);
  const mode = useSignal<Mode>('ask');
  const isSending = useSignal(false);
  const problem = useSignal('');
  const isSettled = useSignal(false);
  const ids = { problem: useId(), field: useId() };

  useLayoutEffect(
    () => () => {
      if (form.current?.contains(document.activeElement)) onGone();
    },
    [],
  );
  useEffect(() => text.current?.focus(), [mode.value]);

  const fail = (message: string) => {
    problem.value = message;
    sound(message);
  };
  const settle = async (answer: Omit<ApprovalData, 'tool_call_id'>) => {
    if (isSending.value) return;
    isSending.value = true;
    problem.value = '';
    const data = { tool_call_id: item.callId, ...answer };
    const outcome = await client.settleApproval(sessionId, data);
    isSending.value = false;
    if (outcome.ok) return;
    if (outcome.error.code !== 'conflict') return fail(describe(outcome.error));
    // Somebody else was faster, which is no mishap: what they decided is shown when it comes.
    isSettled.value = true;
    announce(SETTLED);
  };
  const submit = () => {
    const written = text.current?.value ?? '';
    if (mode.value === 'ask') return void settle({ decision: 'approve' });
    if (mode.value === 'deny') {
      const reason = written.trim();
      return void settle({ decision: 'deny', ...(reason && { reason }) });
    }
    const { args, problem: wrong } = parseArguments(written);
    if (!args) return fail(wrong);
    return void settle({ decision: 'approve', args });
  };
  const choose = (to: Mode) => {
    mode.value = to;
    problem.value = '';
  };
  const back = () => {
    const from = mode.value;
    choose('ask');
    requestAnimationFrame(() => form.current?.querySelector<HTMLElement>(`.to-${from}`)?.focus());
  };

  return (
    // Escape goes back a step; what it does elsewhere, it must not do here.
    // oxlint-disable-next-line jsx-a11y/no-noninteractive-element-interactions
    <form
      ref={form}
      class="approval"
      aria-label={`Approval of ${item.name}`}
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
      onKeyDown={(event) => {
        if (event.key !== 'Escape' || mode.value === 'ask') return;
        event.preventDefault();
        back();
      }}
    >
      <p class="approval-question">
        <span>
          {name} wants to call <code>{item.name}</code>.
        </span>{' '}
        {item.approval?.expiresAt && <Left until={item.approval.expiresAt} />}
      </p>
      {mode.value !== 'ask' && (
        <>
          <label for={ids.field}>{LABELS[mode.value]}</label>
          <textarea
            key={mode.value}
            ref={text}
            id={ids.field}
            class={mode.value === 'edit' ? 'is-code' : ''}
            rows={mode.value === 'edit' ? 6 : 2}
            spellcheck={mode.value === 'deny'}
            maxLength={mode.value === 'deny' ? 2_000 : undefined}
            aria-invalid={problem.value !== ''}
            aria-describedby={ids.problem}
            defaultValue={mode.value === 'edit' ? JSON.stringify(item.args ?? {}, null, 2) : ''}
          />
        </>
      )}
      <p id={ids.problem} class="inline-problem">
        {problem.value}
      </p>
      {isSettled.value && <p>{SETTLED}</p>}
      <div class="actions">
        {mode.value === 'ask' ? (
          <>
            <button type="submit" class="button small primary" aria-disabled={isSending.value}>
              Approve
            </button>
            <button type="button" class="button small to-edit" onClick={() => choose('edit')}>
              Edit…
            </button>
            <button type="button" class="button small to-deny" onClick={() => choose('deny')}>
              Deny…
            </button>
          </>
        ) : (
          <>
            <button type="submit" class="button small primary" aria-disabled={isSending.value}>
              {mode.value === 'edit' ? 'Approve with these' : 'Deny'}
            </button>
            <button type="button" class="button small" onClick={back}>
              Back
            </button>
          </>
        )}
      </div>
    </form>
  );
}

const LABELS = {
  edit: 'Arguments, as JSON',
  deny: 'Reason, which the agent is told (optional)',
};

/** What is wrong with arguments names their place in the command, of which only its end is known here. */
function describe({ code, message }: Refusal): string {
  return code === 'invalid_field' ? message.replace(/^data\.args[/.]?/, '') : sentence(message);
}

const SETTLED = 'This has been settled already, somewhere else.';
