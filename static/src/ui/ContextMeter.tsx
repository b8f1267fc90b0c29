/** How full the model's memory of the chat is. */

import type { ContextUpdate } from '../client/wire.gen';

const HIGH = 75;
const FULL = 90;

const NUMBER = new Intl.NumberFormat('en');

export function ContextMeter({ context }: { context: ContextUpdate }) {
  const { percentage } = context;
  const level = percentage >= FULL ? 'is-full' : percentage >= HIGH ? 'is-high' : '';
  const text = describe(context);
  return (
    <div class={`context ${level}`} title={text}>
      <meter min={0} max={100} value={percentage} aria-label="Context used">
        {text}
      </meter>
      <span aria-hidden="true">{percentage} %</span>
      <span class="visually-hidden">{text}</span>
    </div>
  );
}

export function describe({
  tokens_used,
  context_window,
  percentage,
  omitted_messages,
  source,
}: ContextUpdate): string {
  const used = `${NUMBER.format(tokens_used)} of ${NUMBER.format(context_window)} tokens`;
  const estimated = source === 'estimate' ? ', estimated' : '';
  const messages = omitted_messages === 1 ? 'message' : 'messages';
  const left = omitted_messages > 0 ? `; ${omitted_messages} older ${messages} left out` : '';
  return `${used} (${percentage} %)${estimated}${left}`;
}
