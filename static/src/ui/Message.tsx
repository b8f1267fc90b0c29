/** One entry of a conversation. */

import { useSignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useEffect, useId } from 'preact/hooks';
import type { Item } from '../client/state';
import { Avatar } from './Avatar';
import { COPIED_MS, copyText } from './clipboard';
import { endText, type Entry } from './conversation';
import { ErrorNote } from './ErrorNote';
import { Icon } from './Icon';
import { Markdown } from './Markdown';
import { announce } from './notices';
import { PendingStatus } from './PendingStatus';
import { useView } from './store';
import { clockTime, fullTime } from './time';
import { ToolCall } from './ToolCall';

export interface MessageContext {
  sessionId: string;
  agentName: string;
  /** Puts a text into the composer. */
  onEdit(text: string): void;
}

type Props = MessageContext & { entry: Entry };

export function Message({ entry, ...context }: Props) {
  switch (entry.kind) {
    case 'note':
      return <p class="run-end">{entry.text}</p>;
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
function AgentMessage({ entry, sessionId, agentName }: Props) {
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
    >
      <Markdown text={text} isStreaming={isStreaming} hasCaret={hasCaret} />
    </Frame>
  );
}

interface SettledProps {
  sessionId: string;
  agentName: string;
  item: Item;
  waits: boolean;
}

function SettledMessage({ sessionId, agentName, item, waits }: SettledProps) {
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
        <UserMessage content={item.content} at={item.at}>
          {waits && <p class="message-status">Waits for the answer before it</p>}
        </UserMessage>
      );
    case 'tool':
      return <ToolCall item={item} />;
    case 'error':
      return <ErrorNote sessionId={sessionId} item={item} />;
    case 'end':
      return <p class="run-end">{endText(item)}</p>;
    case 'agent':
      return null;
  }
}

function Thinking({ sessionId, agentName }: MessageContext) {
  const status = useView(sessionId, (view) => view.run?.status);
  return (
    <p class="thinking">
      <span class="thinking-dots" aria-hidden="true">
        <i />
        <i />
        <i />
      </span>
      {agentName} is {status === 'calling_tool' ? 'using a tool' : 'thinking'}
    </p>
  );
}

interface UserMessageProps {
  content: string;
  at: string;
  children?: ComponentChildren;
}

function UserMessage({ content, at, children }: UserMessageProps) {
  return (
    <Frame author="You" from="user" at={at} source={content}>
      <div class="plain" dir="auto">
        {content}
      </div>
      {children}
    </Frame>
  );
}

interface FrameProps {
  author: string;
  from: 'user' | 'agent';
  at: string;
  /** What is copied. */
  source?: string | undefined;
  isStreaming?: boolean;
  children: ComponentChildren;
}

function Frame({ author, from, at, source, isStreaming, children }: FrameProps) {
  const id = useId();
  const date = new Date(at);
  return (
    <article
      class={`message from-${from}${isStreaming ? ' is-streaming' : ''}`}
      aria-labelledby={id}
    >
      <header class="message-head">
        {from === 'agent' && <Avatar name={author} />}
        <h2 id={id}>{author}</h2>
        <time dateTime={at} title={fullTime(date)}>
          {clockTime(date)}
        </time>
        {source !== undefined && <CopyButton text={source} />}
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
      class="icon-button message-copy"
      aria-label="Copy message"
      onClick={() => void copy()}
    >
      <Icon name={result.value === 'copied' ? 'check' : 'copy'} />
      {result.value === 'failed' && <span>Could not copy</span>}
    </button>
  );
}
