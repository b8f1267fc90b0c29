/** One entry of a conversation. */

import { useSignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useEffect, useId } from 'preact/hooks';
import type { Item } from '../client/state';
import { Avatar } from './Avatar';
import { COPIED_MS, copyText } from './clipboard';
import { endText, type Entry } from './conversation';
import { Icon } from './Icon';
import { lazily } from './lazily';
import { Markdown } from './Markdown';
import { ForkButton, ForkNote } from './Fork';
import { announce } from './notices';
import { PendingStatus } from './PendingStatus';
import { useView } from './store';
import { clockTime, fullTime } from './time';

const ErrorNote = lazily(async () => (await import('./panels')).ErrorNote);
const ToolCall = lazily(async () => (await import('./calls/calls')).ToolCall);

export interface MessageContext {
  sessionId: string;
  agentName: string;
  /** Puts a text into the composer. */
  onEdit(text: string): void;
  /** A session may begin with what has been said so far. */
  canFork: boolean;
  /** It was looked for, and is shown as that for a moment. */
  isFound: boolean;
}

type Props = MessageContext & { entry: Entry };

export function Message({ entry, ...context }: Props) {
  switch (entry.kind) {
    case 'note':
      return <p class="run-end">{entry.text}</p>;
    case 'fork':
      return <ForkNote sessionId={entry.sessionId} at={entry.at} />;
    case 'thinking':
      return <Thinking {...context} />;
    case 'pending':
      return (
        <Frame author="You" from="user" at={new Date(entry.pending.at).toISOString()}>
          <div class="plain" dir="auto">
            {String(entry.pending.data['content'])}
          </div>
          <PendingStatus pending={entry.pending} onEdit={context.onEdit} />
        </Frame>
      );
    case 'streaming':
      return <AgentMessage entry={entry} {...context} />;
    case 'item':
      return entry.item.kind === 'agent' ? (
        <AgentMessage entry={entry} {...context} />
      ) : (
        <SettledMessage item={entry.item} waits={entry.waits} {...context} />
      );
  }
}

/** An answer is the same element from its first letter on, so that nothing moves when it is complete. */
function AgentMessage({ entry, sessionId, agentName, canFork, isFound }: Props) {
  const streamed = useView(sessionId, (view) => view.streaming.get(entry.key)?.text);
  const runId = useView(sessionId, (view) => view.run?.id);
  const isStreaming = entry.kind === 'streaming';
  const item = entry.kind === 'item' && entry.item.kind === 'agent' ? entry.item : undefined;
  const text = item?.content ?? streamed ?? '';
  const at = entry.kind === 'streaming' ? entry.at : (item?.at ?? '');
  const hasCaret = entry.kind === 'streaming' && entry.runId === runId;
  return (
    <Frame
      author={agentName}
      from="agent"
      at={at}
      source={isStreaming ? undefined : text}
      isStreaming={isStreaming}
      item={item}
      forkOf={canFork ? sessionId : undefined}
      isFound={isFound}
    >
      <Markdown text={text} isStreaming={isStreaming} hasCaret={hasCaret} />
    </Frame>
  );
}

type SettledProps = MessageContext & { item: Item; waits: boolean };

function SettledMessage({ item, waits, ...context }: SettledProps) {
  const { sessionId, agentName, canFork, isFound } = context;
  switch (item.kind) {
    case 'system':
      return (
        <details class="system">
          <summary>System prompt</summary>
          <div class="plain" dir="auto">
            {item.content}
          </div>
        </details>
      );
    case 'seed':
      return item.role === 'assistant' ? (
        <Frame author={agentName} from="agent" at={item.at} source={item.content}>
          <Markdown text={item.content} isStreaming={false} />
        </Frame>
      ) : (
        <UserMessage content={item.content} at={item.at} />
      );
    case 'user':
      return (
        <UserMessage
          content={item.content}
          at={item.at}
          item={item}
          forkOf={canFork ? sessionId : undefined}
          isFound={isFound}
        >
          {waits && <p class="message-status">Waits for the answer before it</p>}
        </UserMessage>
      );
    case 'tool':
      return <ToolCall sessionId={sessionId} item={item} />;
    case 'error':
      return <ErrorNote sessionId={sessionId} item={item} />;
    case 'end':
      return <p class="run-end">{endText(item)}</p>;
    case 'agent':
      return null;
  }
}

const DOES = {
  thinking: 'is thinking',
  // Between two steps, nothing is being written.
  responding: 'is thinking',
  calling_tool: 'is using a tool',
  waiting_approval: 'waits for your approval',
};

function Thinking({ sessionId, agentName }: MessageContext) {
  const status = useView(sessionId, (view) => view.run?.status);
  return (
    <p class="thinking">
      <span class="thinking-dots" aria-hidden="true">
        <i />
        <i />
        <i />
      </span>
      {agentName} {DOES[status ?? 'thinking']}
    </p>
  );
}

interface UserMessageProps extends Marks {
  content: string;
  at: string;
  children?: ComponentChildren;
}

function UserMessage({ content, at, children, ...marks }: UserMessageProps) {
  return (
    <Frame author="You" from="user" at={at} source={content} {...marks}>
      <div class="plain" dir="auto">
        {content}
      </div>
      {children}
    </Frame>
  );
}

interface Marks {
  /** What stands in the log. */
  item?: Item | undefined;
  /** The session from which one may fork here. */
  forkOf?: string | undefined;
  isFound?: boolean;
}

interface FrameProps extends Marks {
  author: string;
  from: 'user' | 'agent';
  at: string;
  /** What is copied. */
  source?: string | undefined;
  isStreaming?: boolean;
  children: ComponentChildren;
}

function Frame(props: FrameProps) {
  const { author, from, at, source, isStreaming, item, forkOf, isFound, children } = props;
  const id = useId();
  const date = new Date(at);
  return (
    <article
      class={`message from-${from}${isStreaming ? ' is-streaming' : ''}${isFound ? ' is-found' : ''}`}
      aria-labelledby={id}
      data-seq={item?.seq}
    >
      <header class="message-head">
        {from === 'agent' && <Avatar name={author} />}
        <h2 id={id}>{author}</h2>
        <time dateTime={at} title={fullTime(date)}>
          {clockTime(date)}
        </time>
        {source !== undefined && (
          <div class="message-actions">
            <CopyButton text={source} />
            {item && forkOf !== undefined && <ForkButton sessionId={forkOf} item={item} />}
          </div>
        )}
      </header>
      <div class="message-body">{children}</div>
    </article>
  );
}

function CopyButton({ text }: { text: string }) {
  const result = useSignal<'copied' | 'failed' | undefined>(undefined);
  useEffect(() => {
    if (!result.value) return undefined;
    const timer = setTimeout(() => (result.value = undefined), COPIED_MS);
    return () => clearTimeout(timer);
  }, [result.value]);

  const copy = async () => {
    result.value = (await copyText(text)) ? 'copied' : 'failed';
    announce(result.value === 'copied' ? 'Copied' : 'Could not copy');
  };
  return (
    <button
      type="button"
      class="icon-button"
      title="Copy"
      aria-label="Copy message"
      onClick={() => void copy()}
    >
      <Icon name={result.value === 'copied' ? 'check' : 'copy'} />
      {result.value === 'failed' && <span>Could not copy</span>}
    </button>
  );
}
