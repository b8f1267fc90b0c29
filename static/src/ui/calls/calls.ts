/** What only chats with agents that act show: it comes in a file of its own. */

export { Suggestions } from './Suggestions';
export { ToolCall } from './ToolCall';
