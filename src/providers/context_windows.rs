//! How much well-known models can be told, in tokens (pure).
//!
//! What their makers say. Where the hosts of a model differ, the least of them: a prompt that is too short costs
//! an old message, one that is too long costs the answer.

use super::genai::Api;

/// By how a model's name begins, with `-` for every `.`; of several that fit, the longest counts.
const WINDOWS: &[(&str, u64)] = &[
    // OpenAI. Of its newer models' windows, the part that a prompt may take.
    ("chatgpt-4o", 128_000),
    ("gpt-3-5-turbo", 16_385),
    ("gpt-4", 8_192),
    ("gpt-4-0125", 128_000),
    ("gpt-4-1", 1_047_576),
    ("gpt-4-1106", 128_000),
    ("gpt-4-32k", 32_768),
    ("gpt-4-turbo", 128_000),
    ("gpt-4o", 128_000),
    ("gpt-5", 272_000),
    ("gpt-5-1-chat", 128_000),
    ("gpt-5-2-chat", 128_000),
    ("gpt-5-3-chat", 128_000),
    ("gpt-5-3-codex-spark", 100_000),
    ("gpt-5-4", 922_000),
    ("gpt-5-4-mini", 272_000),
    ("gpt-5-4-nano", 272_000),
    ("gpt-5-5", 922_000),
    ("gpt-5-chat", 128_000),
    ("gpt-oss", 131_072),
    ("o1", 200_000),
    ("o1-mini", 128_000),
    ("o1-preview", 128_000),
    ("o3", 200_000),
    ("o4-mini", 200_000),
    // Anthropic.
    ("claude-3", 200_000),
    ("claude-fable-5", 1_000_000),
    ("claude-haiku-4", 200_000),
    ("claude-opus-4", 200_000),
    ("claude-opus-4-6", 1_000_000),
    ("claude-opus-4-7", 1_000_000),
    ("claude-opus-4-8", 1_000_000),
    ("claude-sonnet-4", 200_000),
    ("claude-sonnet-4-6", 1_000_000),
    ("claude-sonnet-5", 1_000_000),
    // Google.
    ("gemini-1-5-flash", 1_048_576),
    ("gemini-1-5-pro", 2_097_152),
    ("gemini-2-0-flash", 1_048_576),
    ("gemini-2-5-flash", 1_048_576),
    ("gemini-2-5-flash-image", 32_768),
    ("gemini-2-5-flash-preview-tts", 8_192),
    ("gemini-2-5-pro", 1_048_576),
    ("gemini-2-5-pro-preview-tts", 8_192),
    ("gemini-3", 1_048_576),
    ("gemini-3-1-flash-image", 65_536),
    ("gemini-3-pro-image", 65_536),
    ("gemini-flash-latest", 1_048_576),
    ("gemini-flash-lite-latest", 1_048_576),
    ("gemma-3", 131_072),
    ("gemma-3-1b", 32_768),
    ("gemma-3n", 32_768),
    // DeepSeek.
    ("deepseek-chat", 131_072),
    ("deepseek-r1", 131_072),
    ("deepseek-reasoner", 131_072),
    ("deepseek-v3", 131_072),
    ("deepseek-v4", 512_000),
    // xAI.
    ("grok-2", 131_072),
    ("grok-3", 131_072),
    ("grok-4", 256_000),
    ("grok-4-20", 1_000_000),
    ("grok-4-3", 1_000_000),
    ("grok-build", 256_000),
    ("grok-code-fast", 256_000),
    // Mistral.
    ("codestral", 256_000),
    ("devstral", 128_000),
    ("magistral", 128_000),
    ("ministral", 128_000),
    ("mistral-large", 131_072),
    ("mistral-large-2512", 262_144),
    ("mistral-medium", 131_072),
    ("mistral-nemo", 128_000),
    ("mistral-small", 128_000),
    ("open-mistral-nemo", 128_000),
    ("open-mixtral-8x22b", 64_000),
    ("open-mixtral-8x7b", 32_000),
    ("pixtral", 128_000),
    // Meta.
    ("llama-3", 8_192),
    ("llama-3-1", 128_000),
    ("llama-3-2", 128_000),
    ("llama-3-3", 128_000),
    ("llama-4", 128_000),
    ("meta-llama-3", 8_192),
    ("meta-llama-3-1", 128_000),
    // Alibaba, Moonshot, Z.ai.
    ("qwen2-5", 32_768),
    ("qwen3", 32_768),
    ("qwen3-5", 262_144),
    ("qwen3-coder", 262_144),
    ("kimi-k2", 131_072),
    ("glm-5", 200_000),
];

/// The tokens that a prompt and its answer may take together; `None` where that is not known.
pub fn known_context_window(api: Api, model: &str) -> Option<u64> {
    // Ollama gives any model what its own settings say, and silently drops what is over.
    if api == Api::Ollama {
        return None;
    }
    // Of `meta-llama/Llama-3.3-70B-Instruct:free`, what lies between.
    let name = model.rsplit('/').next().unwrap_or(model);
    let name = name.split(':').next().unwrap_or(name).to_ascii_lowercase().replace('.', "-");
    let fitting = WINDOWS.iter().filter(|(prefix, _)| begins_with(&name, prefix));
    fitting.max_by_key(|(prefix, _)| prefix.len()).map(|(_, tokens)| *tokens)
}

/// Whether the prefix ends where a part of the name does: `gpt-4` does not begin `gpt-4o`.
fn begins_with(name: &str, prefix: &str) -> bool {
    let rest = name.strip_prefix(prefix);
    rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_known_by_the_longest_beginning() {
        for (api, model, tokens) in [
            (Api::OpenAi, "gpt-4", 8_192),
            (Api::OpenAi, "gpt-4-0613", 8_192),
            (Api::OpenAi, "gpt-4o-mini", 128_000),
            (Api::OpenAi, "gpt-4.1-nano", 1_047_576),
            (Api::OpenAi, "gpt-4-1106-preview", 128_000),
            (Api::OpenAi, "gpt-5-mini", 272_000),
            (Api::OpenAi, "gpt-5.4-mini", 272_000),
            (Api::OpenAi, "gpt-5.5-pro", 922_000),
            (Api::Anthropic, "claude-sonnet-4-5", 200_000),
            (Api::Anthropic, "claude-sonnet-4-20250514", 200_000),
            (Api::Anthropic, "claude-opus-4-6", 1_000_000),
            (Api::Anthropic, "claude-3-5-haiku-latest", 200_000),
            (Api::OpenRouter, "anthropic/claude-opus-4.6:beta", 1_000_000),
            (Api::Gemini, "gemini-2.5-flash", 1_048_576),
            (Api::Gemini, "gemini-2.5-flash-image", 32_768),
            (Api::DeepSeek, "deepseek-chat", 131_072),
            (Api::Xai, "grok-4-0709", 256_000),
            (Api::Mistral, "mistral-large-latest", 131_072),
            (Api::Together, "meta-llama/Llama-3.3-70B-Instruct-Turbo", 128_000),
            (Api::Together, "meta-llama/Meta-Llama-3-8B-Instruct-Lite", 8_192),
            (Api::Groq, "llama-3.1-8b-instant", 128_000),
        ] {
            assert_eq!(known_context_window(api, model), Some(tokens), "{model}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        for (api, model) in [
            (Api::OpenAi, "gpt-6"),
            (Api::OpenAi, "gpt-40"),
            (Api::OpenAi, "my-finetune"),
            (Api::Anthropic, "claude-opus-5"),
            (Api::Gemini, "gemini-4-pro"),
            (Api::OpenAi, ""),
            (Api::Ollama, "llama-3.1"),
        ] {
            assert_eq!(known_context_window(api, model), None, "{model}");
        }
    }
}
