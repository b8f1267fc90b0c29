/** Frames as they come in, over the types that are generated from the server's. */

import type {
  EventEnvelope,
  Pong,
  Reply,
  SnapshotFrame,
  SocketBody,
  SocketFrame,
  SubscribeAck,
  SubscribeError,
  UnsubscribeAck,
} from './wire.gen';

export type ServerFrame =
  | EventEnvelope
  | SnapshotFrame
  | Reply<unknown>
  | SubscribeAck
  | SubscribeError
  | UnsubscribeAck
  | Pong
  | SocketFrame<SocketBody>;

/** A frame that this client sends. */
export interface ClientFrame {
  type: string;
  message_id: string;
  agent_id?: string;
  session_id?: string;
  data?: Record<string, unknown>;
}

/** Reads a frame; `undefined` for what is no frame at all. An unknown type is left to whoever folds it. */
export function decodeFrame(text: string): ServerFrame | undefined {
  let frame: unknown;
  try {
    frame = JSON.parse(text);
  } catch {
    return undefined;
  }
  const isFrame = typeof frame === 'object' && frame !== null && 'type' in frame;
  return isFrame ? (frame as ServerFrame) : undefined;
}

export function sessionTopic(sessionId: string): string {
  return `session:${sessionId}`;
}

/** The session that a topic is of, if it is one of a session. */
export function sessionOfTopic(topic: string): string | undefined {
  return topic.startsWith('session:') ? topic.slice('session:'.length) : undefined;
}

/** Bytes of `text` in UTF-8. */
export function utf8Length(text: string): number {
  let bytes = 0;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit < 0x80) bytes += 1;
    else if (unit < 0x800) bytes += 2;
    else if (unit < 0xd800 || unit > 0xdfff) bytes += 3;
    // A pair of surrogates is four bytes; each half counts for two.
    else bytes += 2;
  }
  return bytes;
}
