"""What the demo model knows about itself and about oga-chat: terms, flags and questions with their answers."""

from dataclasses import dataclass

from builder.demo.training.wording import wordings


@dataclass(frozen=True)
class Term:
    """A technical term with its names, its explanation and words that show a right answer."""

    names: tuple[str, ...]
    answers: tuple[str, ...]
    marks: tuple[str, ...]


@dataclass(frozen=True)
class Flag:
    """One command-line flag of the program."""

    name: str
    answer: str
    marks: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """A question of its own, with all the ways to ask it."""

    asked: tuple[str, ...]
    answers: tuple[str, ...]
    marks: tuple[str, ...]


TERMS: tuple[Term, ...] = (
    Term(("quantization", "quantisation", "weight quantization", "quantizing a model"),
         ("Quantization stores the weights of a model with fewer bits, so that the model is smaller and runs faster.",),
         ("fewer bits",)),
    Term(("UINT4", "uint4", "4-bit weights", "int4"),
         ("UINT4 means that each weight is stored as a whole number from 0 to 15, in only four bits.",), ("0 to 15",
         "four bits")),
    Term(("AWQ", "awq", "activation-aware weight quantization", "the AWQ algorithm"),
         ("AWQ looks at the activations to see which weights matter most, and scales those so that rounding "
"hurts them less.",),
         ("matter most",)),
    Term(("round-to-nearest", "round to nearest", "RTN", "plain rounding"),
         ("Round-to-nearest simply rounds every weight to the closest step. It is quick, but it loses more "
"quality than AWQ.",),
         ("closest step",)),
    Term(("group size", "the group size", "a group of weights", "groups of 128"),
         ("The group size says how many weights share one scale. Here it is 128: smaller groups are more exact "
"but bigger.",),
         ("share one scale",)),
    Term(("a scale", "the scale", "scales", "the scale of a group"),
         ("The scale is the step between two neighbouring quantized values. Every group of weights has its own "
"scale.",),
         ("step between",)),
    Term(("a zero point", "the zero point", "zero points", "asymmetric quantization"),
         ("The zero point says which of the 16 steps stands for zero, so that a group need not be centred on zero.",),
         ("stands for zero",)),
    Term(("calibration", "calibration data", "the calibration set", "calibrating"),
         ("Calibration runs some sample text through the model, so that AWQ can see which activations are large.",),
         ("sample text",)),
    Term(("the KV cache", "KV cache", "kv cache", "the key-value cache"),
         ("The KV cache keeps the keys and values of earlier tokens, so that they need not be computed again "
"for every new token.",),
         ("keys and values",)),
    Term(("sampling", "token sampling", "the sampler", "a sampler"),
         ("Sampling chooses the next token at random from the likely ones. Temperature, top_k, top_p and min_p "
"steer the choice.",),
         ("next token",)),
    Term(("temperature", "the temperature", "sampling temperature", "the temperature setting"),
         ("Temperature sets how daring the choice of words is: 0 always takes the likeliest token, higher "
"values give more variety.",),
         ("likeliest token",)),
    Term(("top_k", "top-k", "top k", "top_k sampling"),
         ("top_k keeps only the k likeliest tokens and chooses among those.",), ("k likeliest",)),
    Term(("top_p", "top-p", "top p", "nucleus sampling"),
         ("top_p keeps the smallest set of likely tokens whose probabilities add up to p.",), ("add up to p",)),
    Term(("min_p", "min-p", "min p", "min_p sampling"),
         ("min_p drops every token whose probability is less than p times that of the likeliest one.",),
         ("less than p times",)),
    Term(("the repetition penalty", "repetition penalty", "repetition_penalty", "a penalty for repetition"),
         ("The repetition penalty makes tokens that were already used less likely, so that the text repeats "
"itself less.",),
         ("already used",)),
    Term(("the seed", "a seed", "seed", "the random seed"),
         ("The seed fixes the random choices: the same seed and settings give the same answer again.",),
         ("random choices",)),
    Term(("greedy decoding", "greedy search", "decoding greedily", "temperature 0"),
         ("Greedy decoding always takes the likeliest token, so the same question gives the same answer.",),
         ("likeliest token",)),
    Term(("a token", "tokens", "a token in a language model", "the tokens"),
         ("A token is a piece of text, often a short word or a part of a word. The model reads and writes tokens.",),
         ("piece of text",)),
    Term(("a tokenizer", "the tokenizer", "tokenization", "byte pair encoding", "BPE"),
         ("A tokenizer cuts text into tokens and turns tokens back into text. Mine knows about two thousand tokens.",),
         ("cuts text",)),
    Term(("the context length", "context length", "the context window", "a context window"),
         ("The context length is how many tokens of the conversation the model can see at once. Mine is 2048.",),
         ("see at once",)),
    Term(("a system prompt", "the system prompt", "system prompts", "a system message"),
         ("A system prompt is an instruction at the start of a chat that tells the model how to answer.",),
         ("how to answer",)),
    Term(("a chat template", "the chat template", "chat templates", "the prompt template"),
         ("A chat template turns the messages of a chat into the one text that the model was trained on.",),
         ("messages of a chat",)),
    Term(("ONNX", "onnx", "the ONNX format", "an ONNX model"),
         ("ONNX is an open file format for models. oga-chat exports the quantized model to it.",), ("file format",)),
    Term(("ONNX Runtime", "onnxruntime", "onnx runtime", "the ONNX Runtime"),
         ("ONNX Runtime is the program library that runs ONNX models on processors and graphics cards.",),
         ("runs ONNX models",)),
    Term(("OGA", "oga", "ONNX Runtime GenAI", "onnxruntime-genai", "ONNX Runtime Generative AI"),
         ("OGA, in full ONNX Runtime GenAI, runs language models on ONNX Runtime and looks after the KV cache.",),
         ("runs language models",)),
    Term(("Quark", "AMD Quark", "amd-quark", "the Quark library"),
         ("Quark is AMD's library for quantizing models. oga-chat uses it to make UINT4 weights with AWQ.",),
         ("AMD's library",)),
    Term(("the model builder", "OGA's model builder", "the OGA model builder", "the export"),
         ("The model builder of OGA turns the quantized checkpoint into an ONNX model that the chat can run.",),
         ("turns the quantized checkpoint",)),
    Term(("oga-chat", "oga chat", "this program", "this app", "this application"),
         ("oga-chat takes a Hugging Face chat model, quantizes it to UINT4 with AWQ, exports it to ONNX and "
"serves a chat in the browser.",),
         ("chat in the browser",)),
    Term(("perplexity", "the perplexity", "a perplexity of 5", "perplexity in a report"),
         ("Perplexity measures how surprised a model is by a text. Lower is better.",), ("how surprised",)),
    Term(("a language model", "language models", "an LLM", "a large language model"),
         ("A language model guesses the next token of a text, again and again. That is how I write my answers.",),
         ("guesses the next token",)),
    Term(("attention", "the attention mechanism", "self-attention", "an attention layer"),
         ("Attention lets every token look back at the earlier tokens and take what it needs from them.",),
         ("look back",)),
    Term(("a transformer", "transformers", "the transformer", "the transformer architecture"),
         ("A transformer is a stack of layers that use attention to read a text. Most language models are "
"built like that, and so am I.",),
         ("stack of layers",)),
    Term(("a weight", "weights", "model weights", "the weights of a model", "parameters"),
         ("The weights are the numbers that a model has learned. I have about six million of them.",),
         ("numbers that a model has learned",)),
    Term(("the lm_head", "lm_head", "the output layer", "the head of the model"),
         ("The lm_head is the last layer. It turns the model's state into a score for every token.",),
         ("score for every token",)),
    Term(("an embedding", "embeddings", "the embedding table", "token embeddings"),
         ("An embedding is the list of numbers that stands for a token inside the model.",), ("stands for a token",)),
    Term(("prefill", "the prefill", "prompt processing", "the prefill phase"),
         ("Prefill is the first step: the model reads the whole prompt at once before it writes the first token.",),
         ("reads the whole prompt",)),
    Term(("streaming", "token streaming", "a streamed answer", "streaming output"),
         ("Streaming shows each piece of the answer as soon as it is made, so you need not wait for the end.",),
         ("as soon as",)),
    Term(("the manifest", "manifest.json", "a model's manifest", "the manifest file"),
         ("The manifest records how a model was made: its source, the recipe, the versions, the hashes and the "
"measured quality.",),
         ("how a model was made",)),
    Term(("a stop string", "stop strings", "stop sequences", "a stop sequence"),
         ("A stop string ends the answer: as soon as the text contains it, the model stops writing.",),
         ("ends the answer",)),
    Term(("max_tokens", "the token limit", "max tokens", "the maximum number of tokens"),
         ("max_tokens limits how long an answer may become, counted in tokens.",), ("how long an answer",)),
    Term(("Hugging Face", "the Hugging Face Hub", "the Hub", "huggingface"),
         ("Hugging Face is a site where people share models. oga-chat can load chat models from there with --model.",),
         ("share models",)),
    Term(("a safetensors file", "safetensors", "model.safetensors", "the safetensors format"),
         ("Safetensors is a file format that stores the weights of a model safely and loads quickly.",),
         ("stores the weights",)),
    Term(("a checkpoint", "checkpoints", "the checkpoint", "a model checkpoint"),
         ("A checkpoint is the saved state of a model: its weights, its configuration and its tokenizer.",),
         ("saved state",)),
    Term(("a logit", "logits", "the logits", "token logits"),
         ("Logits are the raw scores that the model gives to every token before they become probabilities.",),
         ("raw scores",)),
    Term(("a GPU", "graphics cards", "the GPU", "a graphics card"),
         ("A GPU is a processor that does many sums at the same time. I am small enough to run without one.",),
         ("many sums",)),
)  # fmt: skip

FLAGS: tuple[Flag, ...] = (
    Flag(
        "--model",
        "--model chooses the model: a Hugging Face id such as meta-llama/Llama-2-7b-chat-hf, or a local folder.",
        ("chooses the model",),
    ),
    Flag(
        "--rebuild",
        "--rebuild makes the model again from its source. The old one stays until the new one has been verified.",
        ("again from its source",),
    ),
    Flag(
        "--share",
        "--share makes a public link to the chat. Without --auth a random password is set and printed.",
        ("public link",),
    ),
    Flag("--auth", "--auth USER:PASSWORD asks visitors for a name and a password.", ("asks visitors",)),
    Flag(
        "--host",
        "--host sets the address to listen on. The default is 127.0.0.1, which is only this computer.",
        ("address to listen on",),
    ),
    Flag("--port", "--port sets the port of the web page. The default is 7860.", ("7860",)),
    Flag("--models-dir", "--models-dir says in which folder the finished models are kept.", ("folder",)),
    Flag(
        "--context-length",
        "--context-length limits how many tokens of a chat the model sees. A shorter one needs less memory.",
        ("how many tokens",),
    ),
)

QUESTIONS: tuple[Question, ...] = (
    Question(wordings(
        """Who are you? | who are you | What are you? | what's your name? | What is your name? | Introduce yourself. |
        Tell me about yourself. | Who am I talking to? | whats your name | Do you have a name? |
        What should I call you? | Please introduce yourself. | What is this? | Who is this? | Your name? | who r u |
        And who are you? | How are you called? | What kind of thing are you? | Could you introduce yourself? |
        What do people call you? | Tell me your name. | Can you tell me who you are? | May I know your name? |
        Tell me who you are. | Please tell me who you are. | Please tell me your name. | Say who you are. |
        Say your name. | So who are you? | Who are you really? | And what is your name? | And what are you? |
        What is it that I am talking to? | With whom am I talking? | With whom do I talk? | Who do I talk to? |
        Am I talking to you? Who are you? | What do I call you? | How should I call you? | Do you have a name? |
        Have you got a name? | Can you introduce yourself? | Can you tell me your name? |
        Can you tell me about yourself? | Tell me something about yourself. | Tell me more about yourself. |
        Describe yourself. | Explain what you are. | Tell me what you are. | What kind of model are you? |
        What kind of program are you? | What sort of thing are you? | Which model is this? | What is this model? |
        What model are you? | Who is speaking? | Who is there? | name?"""
    ),
             ("I am the demo model of oga-chat, a tiny language model.",
             "I am oga-chat's demo model, a very small language model."), ("demo model",)),
    Question(wordings(
        """What can you do? | what can you do | What are you good at? | How can you help me? | What do you know? |
        What can I ask you? | Show me what you can do. | What are your skills? | What are you able to do? |
        Give me some examples. | What can I do here? | What are your abilities? | What topics do you know? |
        What should I ask you? | Tell me what you can do. | List your skills. |
        What kind of questions can you answer? | help me get started | What can you do for me? |
        What can you help me with? | What can you help with? | What else can you do? | What do you do? |
        What are you for? | What can I do with you? | What can I ask? | What can we talk about? | What should I ask? |
        What do you know about? | What things do you know? | What things can you do? |
        What kind of things can you do? | Which things can you do? | Which questions can you answer? |
        What questions can you answer? | Which skills do you have? | What skills do you have? |
        Which topics do you know? | What topics can you talk about? | Tell me your skills. |
        Tell me what you are able to do. | Tell me what you know. | Show me your skills. |
        Give me an example of what you can do. | Give me examples of what you can do. |
        Can you tell me what you can do? | Can you do anything? | Is there anything you can do? |
        How do you help people? | How can you be useful? | How could you help me? | Why should I talk to you? |
        What are you useful for?"""
    ),
             ("I can chat, remember what you tell me, do small sums, spell and sort words, answer simple facts, "
"tell stories and explain oga-chat.",),
             ("small sums",)),
    Question(wordings(
        """What can't you do? | What are your limits? | What do you not know? | Are you always right? |
        Can I trust you? | Do you make mistakes? | How reliable are you? | What are you bad at? |
        What are your weaknesses? | Where are your limits? | Are your answers correct? | What do you not know? |
        What don't you know? | What can you not do? | What are you not able to do? | What are you not good at? |
        Are you always correct? | Are you ever wrong? | Are you sometimes wrong? | Are your answers right? |
        Are your answers always right? | Are all your answers correct? | Can you make mistakes? |
        Do you ever make mistakes? | Do you always tell the truth? | Can I rely on you? | Can I trust your answers? |
        Should I trust you? | Should I trust your answers? | How good are you? | How smart are you? |
        How clever are you? | How good are your answers? | Tell me your limits. | Tell me your weaknesses. |
        Tell me what you cannot do. | Do you have limits? | Do you have weaknesses? | Do you know everything? |
        Can you do everything? | Can you answer everything? | Are you reliable?"""
    ),
             ("I am tiny, so I make mistakes. I know only simple things, I have no internet, and I cannot do big "
"sums.",),
             ("tiny",)),
    Question(wordings(
        """Who made you? | Who created you? | Who trained you? | Where do you come from? | Who built you? |
        Who is your maker? | Who wrote you? | Who programmed you? | Who developed you? | Who is your creator? |
        By whom were you made? | Who has made you? | Which people made you? | Who is behind you? |
        Who made this model? | Who made this? | Who trained this model? | Who created this model? | Who built this? |
        Are you made by a company? | Which company made you? | Which company developed you? | Who are your makers? |
        Who are your developers? | Who owns you? | Tell me who made you. | Tell me who created you. |
        Tell me who trained you. | Who designed you?"""
    ),
             ("I was trained for oga-chat, on text that the project wrote itself.",), ("trained for oga-chat",)),
    Question(wordings(
        """Are you human? | Are you a robot? | Are you real? | Are you a person? | Are you an AI? | Are you a machine? |
        Are you a bot? | Am I talking to a human? | are you a computer? | Is this a real person? |
        Are you a computer program? | You are not human, are you? | Are you a human? | Are you a human being? |
        Are you a real person? | Are you a real human? | Are you a woman or a man? | Are you a boy or a girl? |
        Are you an AI or a human? | Are you a person or a machine? | Are you a human or a robot? |
        Are you a human or a machine? | Are you a program? | Are you just a program? | Are you just a machine? |
        Are you just a computer? | Are you a chat bot? | Are you a chatbot? | Are you an artificial intelligence? |
        Are you artificial? | Am I talking to a robot? | Am I talking to a machine? | Am I talking to a person? |
        Am I talking to a real person? | Am I talking with a human? | Is this a human? | Is this a robot? |
        Is this a bot? | Is this an AI? | Is this a machine? | Do I talk to a human? | Do I talk to a machine?"""
    ),
             ("I am not a person. I am a tiny language model, a computer program.",), ("language model",)),
    Question(wordings(
        """Are you ChatGPT? | Are you GPT-4? | Are you Llama? | Are you Claude? | Are you Siri? | Are you Gemini? |
        Are you made by OpenAI? | Is this ChatGPT? | Are you Alexa? | Are you Llama 2? | Are you Mistral? |
        Which model are you? | Are you GPT? | Are you GPT-3? | Are you a GPT? | Are you an OpenAI model? |
        Are you made by Google? | Are you made by Meta? | Are you made by AMD? | Are you from Google? |
        Are you from OpenAI? | Are you Llama 3? | Are you Qwen? | Are you Phi? | Are you Gemma? | Are you Bard? |
        Are you Copilot? | Is this GPT-4? | Is this Llama? | Is this Claude? | Is this Gemini? |
        Is this a Llama model? | Am I talking to ChatGPT? | Am I talking to Siri? | Am I talking to Llama? |
        Are you the same as ChatGPT? | Are you like ChatGPT? | Are you as good as ChatGPT? |
        Are you better than ChatGPT?"""
    ),
             ("No, I am the small demo model of oga-chat.", ), ("demo model",)),
    Question(wordings(
        """How big are you? | How large are you? | How many parameters do you have? | How small are you? |
        What is your size? | How many weights do you have? | How much memory do you need? | Are you a big model? |
        Are you small? | What size are you? | How many layers do you have? | Your number of parameters? |
        How many parameters have you got? | How many parameters are there in you? | How many weights have you got? |
        How many layers are in you? | How many layers have you got? | How big is this model? |
        How large is this model? | How small is this model? | How big is the demo model? |
        How many parameters does this model have? | How many layers does this model have? |
        What is the size of this model? | What is your size in megabytes? | How many megabytes are you? |
        How many bytes are you? | Are you a large model? | Are you a tiny model? | Are you a small model? |
        Are you big or small? | Are you very small? | Tell me your size. | Tell me how big you are. |
        Tell me how many parameters you have. | Do you have many parameters? | Do you need much memory?"""
    ),
             ("I have about six million parameters in seven layers. That is tiny: I fit into 12 megabytes.",),
             ("six million",)),
    Question(wordings(
        """How were you trained? | What were you trained on? | Which data were you trained on? |
        Where does your knowledge come from? | How did you learn? | What is your training data? |
        How did you learn to speak? | What text did you read? | On what text were you trained? |
        What did you learn from? | Where did you learn this? | What was your training like? |
        How have you been trained? | How did they train you? | How did you get trained? | How did you learn English? |
        How did you learn all this? | How do you know that? | How do you know all this? | How do you know this? |
        Where do you know that from? | Where did you learn that? | What data did you learn from? |
        What data were you trained on? | What texts were you trained on? | What text were you trained on? |
        Which text were you trained on? | Which texts did you read? | What did they train you on? |
        What were you trained with? | On what data were you trained? | On which data were you trained? |
        Were you trained on the internet? | Were you trained on books? | Did you read books? |
        Did you read the internet? | Tell me how you were trained. | Tell me about your training. |
        Tell me what you were trained on. | What is your training text?"""
    ),
             ("I was trained from scratch on text that a script in the oga-chat repository writes.",), ("script",)),
    Question(wordings(
        """Can I use a bigger model? | How do I load another model? | How can I use a real model? |
        How do I change the model? | Can I use Llama 2? | How do I run my own model? | How do I get a better model? |
        Can you load another model? | How can I chat with a different model? | How do I switch to another model? |
        I want a bigger model. | Which command loads another model? | How do I use a model from Hugging Face? |
        Is there a better model? | Can I run a local model? | How do I choose a model? |
        How do I start a larger model? | Where do I set the model? | How do I load my own model? |
        How do I load a bigger model? | How do I load a real model? | How do I load a different model? |
        How do I load a model from Hugging Face? | How can I load another model? | How can I use another model? |
        How can I use my own model? | How can I run a bigger model? | How can I run Llama 2? |
        How can I change the model? | How can I switch the model? | How do I use another model? |
        How do I use a bigger model? | How do I use a different model? | How do I use my own model? |
        How do I run a bigger model? | How do I run another model? | How do I chat with a bigger model? |
        How do I chat with Llama? | Can I use another model? | Can I use my own model? |
        Can I use a different model? | Can I use a real model? | Can I use a model from Hugging Face? |
        Can I load my own model? | Can I load a bigger model? | Can I change the model? | Can I run another model? |
        Can you use a bigger model? | Is there a bigger model? | I want to use another model. |
        I want to load my own model. | I want a better model. | I want to chat with a real model. |
        I need a better model. | Load another model. | Which flag sets the model? | Which flag loads another model? |
        Which command do I use for another model? | What do I do to load another model? |
        How to load a bigger model? | How to use another model?"""
    ),
             ("Start the app with --model and a Hugging Face id or a local folder, for example: python app.py "
"--model meta-llama/Llama-2-7b-chat-hf",),
             ("--model",)),
    Question(wordings(
        """How do I start the app? | How do I run oga-chat? | How do I start the chat? | What is the command to start? |
        How can I launch the program? | How do I run this program? | Which command starts the chat? |
        How do I launch oga-chat? | How is the app started? | What do I type to start it? | How to run oga-chat? |
        How to start this app? | How do I start oga-chat? | How do I start this? | How do I start this program? |
        How do I start the program? | How do I run the app? | How do I run this app? | How do I run this? |
        How do I run the chat? | How do I launch the app? | How do I launch the chat? | How can I start the app? |
        How can I start oga-chat? | How can I start the chat? | How can I run the app? | How can I run oga-chat? |
        How is oga-chat started? | How is the program started? | What is the command to run the app? |
        What is the command to start the app? | What is the command to start oga-chat? |
        Which command starts the app? | Which command starts oga-chat? | Which command runs the program? |
        What do I type to run it? | What do I type to start the chat? | How to start the chat? |
        How to start oga-chat? | How to run the app? | How to launch the app? | How do I install oga-chat? |
        How do I install this? | How do I install the app? | How can I install it?"""
    ),
             ("Install it with pip install -e . and start it with python app.py.",), ("python app.py",)),
    Question(wordings(
        """How do I rebuild the model? | How can I build the model again? | How do I make the model new? |
        How do I regenerate the model? | Can I rebuild the model? | What do I do to rebuild? |
        Which flag rebuilds the model? | How do I repeat the build? | Which option makes the model again? |
        I want to rebuild the model. | How to rebuild? | How is the model regenerated? |
        How do I build the model again? | How do I build it again? | How do I make the model again? |
        How can I make the model again? | How can I rebuild the model? | How can I rebuild it? |
        How can I regenerate the model? | How do I rebuild it? | How do I start a rebuild? |
        How do I force a rebuild? | Can I build the model again? | Can I regenerate the model? |
        Can I make the model again? | Can I repeat the build? | Which flag builds the model again? |
        Which flag makes the model again? | Which flag do I use to rebuild? | Which option rebuilds the model? |
        Which option builds the model again? | I want to build the model again. | I want to make the model again. |
        I want a rebuild. | Rebuild the model. | Build the model again. | How to rebuild the model? |
        How to build the model again? | What do I do to build the model again? | How do I repeat a build?"""
    ),
             ("Start the app with --rebuild. The old model stays until the new one has been verified.",),
             ("--rebuild",)),
    Question(wordings(
        """How do I share the chat? | Can I get a public link? | How do I make a public link? |
        How can my friends use this chat? | How do I show this to others? | Can others use my chat? |
        Which flag makes a public link? | How can I share this? | Is there a public link? |
        How do I put this online? | How to share this chat? | I want to share the chat with a friend. |
        How do I share this chat? | How do I share this? | How do I share it? | How do I share it with a friend? |
        How do I share the chat with friends? | How can I share the chat? | How can I share it with my friends? |
        How can I share the chat with others? | How can others use this chat? | How can others use it? |
        How can my friend use this chat? | How can I get a public link? | How can I make a public link? |
        How do I get a public link? | How do I get a link? | How do I create a public link? |
        How do I put the chat online? | How do I put this chat on the internet? |
        How do I show the chat to a friend? | Can I share this chat? | Can I share the chat? |
        Can I share it with others? | Can I share this with a friend? | Can my friends use this? |
        Can others use this chat? | Can I make a public link? | Can I put this online? |
        Is there a link I can share? | Which flag shares the chat? | Which flag makes a link? |
        I want to share this. | I want a public link. | I want to show this to a friend. | How to share the chat? |
        How to get a public link? | How to make a link?"""
    ),
             ("Start the app with --share to get a public link. Add --auth USER:PASSWORD to choose the password "
"yourself.",),
             ("--share",)),
    Question(wordings(
        """How do I set a password? | Can I protect the chat with a password? | How do I add a login? |
        How do I protect the chat? | Is there a login? | Which flag sets a password? |
        How can I ask visitors for a password? | Can I add a password? | How do I lock the chat? |
        How do I require a login? | How to set a password? | I want a password on the chat. |
        How do I add a password? | How do I use a password? | How do I set a login? | How do I ask for a password? |
        How do I protect this chat? | How do I protect it with a password? | How can I set a password? |
        How can I add a password? | How can I add a login? | How can I protect the chat? | How can I protect it? |
        How can I lock the chat? | Can I set a password? | Can I set a login? | Can I protect this? |
        Can I lock this chat? | Can I ask for a password? | Is there a password? | Which flag adds a password? |
        Which flag adds a login? | Which flag protects the chat? | I want a password. | I want to set a password. |
        I want to add a login. | I want to protect the chat. | How to add a password? | How to protect the chat? |
        How to add a login?"""
    ),
             ("Start the app with --auth USER:PASSWORD.",), ("--auth",)),
    Question(wordings(
        """How do I change the port? | Which port do you use? | The port is in use, what now? |
        What is the default port? | Port 7860 is taken. | Can I use another port? | Which flag sets the port? |
        How can I use another port? | How do I set the port? | On which port is the chat? | How to change the port? |
        What port is it? | What is the port? | Which port is it? | Which port is the default? | Which port is used? |
        What port do you use? | What port is used? | On which port do you run? | On which port does it run? |
        What port does it run on? | Which port does the app use? | Which port does the chat use? |
        The port is taken. | The port is already in use. | Port 7860 is in use. | Port 7860 is already in use. |
        The port is taken, what now? | How do I use another port? | How do I use a different port? |
        How do I choose the port? | How do I choose another port? | How can I change the port? |
        How can I set the port? | Can I change the port? | Can I set the port? | Can I use a different port? |
        Which flag changes the port? | I want another port. | I want to change the port. | I need another port. |
        How to set the port? | How to use another port?"""
    ),
             ("The default port is 7860. Start the app with --port to use another one.",), ("--port",)),
    Question(wordings(
        """Where are the models stored? | Where do you keep the models? | In which folder are the models? |
        How do I change the models folder? | Where is the model saved? | Can I store the models elsewhere? |
        Which folder holds the models? | Where does the finished model go? | Where can I find the exported model? |
        How do I move the models? | Where on my disk are the models? | Where is the built model kept? |
        Where are my models? | Where can I find my models? | Where is my model stored? |
        In which folder is the model stored? | Where do the models go? | Which folder are the models in? |
        How do I store the models elsewhere? | How can I change the folder of the models? |
        Can I move the models to another folder? | Can I change where the models are kept? |
        Which flag sets the models folder? | Where on the disk is the model?"""
    ),
             ("Finished models are kept in your user data folder. Use --models-dir to choose another one.",),
             ("--models-dir",)),
    Question(wordings(
        """How do I use less memory? | I have little memory, what can I do? | How do I limit the context? |
        How do I save memory? | Can I make the context shorter? | How do I set the context length? |
        It needs too much memory. | How can I reduce memory use? | Which flag limits the context? |
        How do I change the context length? | How to use less RAM? | Memory is short, what helps? |
        How can I save memory? | How can I limit the context length? | Can I limit the context? |
        Which flag sets the context length? | How do I make the context length smaller? | I want to use less memory. |
        Can I use less memory? | I do not have much memory. | My computer has little memory. |
        How do I reduce the memory? | It uses too much memory. | What can I do to save memory? |
        How can I make it use less memory?"""
    ),
             ("Use --context-length with a smaller number: the model then sees fewer tokens and needs less memory.",),
             ("--context-length",)),
    Question(wordings(
        """Is my data private? | Do you send my data anywhere? | Who can read this chat? | Is this chat private? |
        Do you store what I say? | Is anything sent to the internet? | Where does my data go? | Do you collect data? |
        Are my messages sent somewhere? | Is this safe to use? | Do you need the internet? |
        Does anything leave my computer? | Is this private? | Is it private? | Is my chat private? |
        Is our chat private? | Is our chat safe? | Is my data safe? | Is it safe? | Is this safe? |
        Is my data sent anywhere? | Is my data sent to the internet? | Is my data stored? |
        Is anything sent anywhere? | Do you send anything to the internet? | Do you send my messages anywhere? |
        Do you send data to the internet? | Do you store my data? | Do you store our chat? | Do you keep my data? |
        Do you use the internet? | Do you collect my data? | Do you share my data? | Where is my data? |
        Where do my messages go? | Where is my data stored? | Can others read my messages? |
        Can others read this chat? | Can anyone read this chat? | Who can see my data? | Who can see this chat? |
        Who can see what I write? | Who reads my messages? | Does this need the internet? |
        Does my data leave my computer? | Are my messages private? | Are my messages stored? | Are my messages safe?"""
    ),
             ("Everything runs on your own computer, and nothing is sent anywhere. Only --share opens the chat to "
"others.",),
             ("own computer",)),
    Question(wordings(
        """How do I get more varied answers? | Your answers are always the same. | How can I make you more creative? |
        How do I get more variety? | Can you be more creative? | How do I make answers more random? |
        What makes the answers more creative? | I want more creative answers. | Which setting gives more variety? |
        Why is it always the same answer? | How to get more randomness? | Make your answers more varied. |
        How can I get more varied answers? | How can I get more variety? | How can I get more creative answers? |
        How can I make the answers more creative? | How can I make the answers more random? |
        How do I get more creative answers? | How do I get more random answers? | How do I make you more creative? |
        How do I make the answers more creative? | How do I make the answers more varied? |
        How do I change the variety? | Can you be more random? | Can I make you more creative? |
        Can I get more variety? | Can I get more varied answers? | What gives more variety? |
        What gives more creative answers? | What makes answers more random? | What makes the answers more varied? |
        Which setting makes you more creative? | Which setting makes the answers more random? |
        Which setting gives more creative answers? | I want more variety. | I want more varied answers. |
        I want more random answers. | Your answers are too boring. | Your answers are always so boring. |
        The answers are always the same. | The answer is always the same. | Why are your answers always the same? |
        Be more creative. | How to get more variety? | How to get more creative answers?"""
    ),
             ("Raise the temperature, or set top_p closer to 1.",), ("temperature",)),
    Question(wordings(
        """How do I get the same answer again? | How do I make answers repeatable? | How can I reproduce an answer? |
        Which setting makes answers repeatable? | Can I get exactly the same answer? |
        How do I repeat an answer exactly? | How can answers be made reproducible? |
        I want the same answer every time. | How to reproduce an answer? | What gives the same answer each time? |
        How do I fix the answer? | How can I switch off randomness? | How can I get the same answer again? |
        How can I get the same answer every time? | How can I get the same answer? | How do I get the same answer? |
        How do I get the same answer every time? | How do I get the same answer each time? |
        How do I make an answer repeatable? | How can I make answers repeatable? |
        How can I make an answer reproducible? | How do I make answers reproducible? | How do I reproduce an answer? |
        How do I switch off randomness? | How do I turn off randomness? | Can I get the same answer again? |
        Can I get the same answer every time? | Can I make the answers repeatable? | Can I reproduce an answer? |
        Can answers be repeatable? | Which setting gives the same answer? |
        Which setting gives the same answer every time? | What makes answers repeatable? |
        What makes an answer reproducible? | I want the same answer again. | I want the same answer each time. |
        I want repeatable answers. | I want no randomness. | How to get the same answer again? |
        How to make answers repeatable? | How to switch off randomness? | Why is the answer different each time? |
        Why are the answers different every time?"""
    ),
             ("Set a seed, or set the temperature to 0: then the same question gives the same answer.",), ("seed",)),
    Question(wordings(
        """You repeat yourself. | How do I stop repetition? | Why do you repeat yourself? |
        The model repeats the same words. | What helps against repetition? | How can I avoid repetition? |
        The answer repeats itself, what now? | How do I stop the model from repeating? |
        What can I do about repeated words? | The text keeps looping. | How to avoid loops? |
        It says the same thing over and over. | Why do you repeat things? | Why do you say the same thing again? |
        Why do you repeat the same words? | Why does the model repeat itself? | Why does it repeat itself? |
        Why is it repeating itself? | You keep repeating yourself. | You repeat the same words. |
        You say the same thing over and over. | The model repeats itself. | The model keeps repeating itself. |
        The text repeats itself. | It repeats itself. | It keeps repeating the same words. |
        It repeats the same thing over and over. | It keeps looping. | How do I stop the repetition? |
        How do I stop you from repeating yourself? | How do I avoid repetition? | How do I stop loops? |
        How can I stop repetition? | How can I stop the model from repeating itself? | How can I avoid loops? |
        What can I do against repetition? | What can I do about repetition? | What helps against loops? |
        What stops repetition? | Which setting stops repetition? | Which setting helps against repetition? |
        Stop repeating yourself. | How to stop repetition? | How to avoid repetition?"""
    ),
             ("Raise the repetition penalty a little, to about 1.1.",), ("repetition penalty",)),
    Question(wordings(
        """How does quantization make a model smaller? | Why is a quantized model smaller? |
        How much smaller is a UINT4 model? | How much memory does UINT4 save? | How small does the model get? |
        Why quantize a model? | What is quantization good for? | Why do you quantize? |
        How much smaller is a quantized model? | What do I gain from quantization? | Why use four bits? |
        What is the benefit of UINT4? | What is the benefit of quantization? | What is the point of quantization? |
        What is good about quantization? | What is good about UINT4? | What do I gain from UINT4? |
        What do I get from quantization? | Why is UINT4 smaller? | Why is UINT4 good? | Why is quantization good? |
        Why is a UINT4 model smaller? | Why does quantization make a model smaller? | Why do you use UINT4? |
        Why do we use four bits? | Why do we quantize a model? | Why should I quantize a model? |
        Why should I use UINT4? | Why only four bits? | How does quantization save memory? |
        How does UINT4 save memory? | How does UINT4 make a model smaller? | How much memory does quantization save? |
        How much memory do I save with UINT4? | How much space does UINT4 save? |
        How much smaller is the model with UINT4? | How much smaller does the model get? |
        How much smaller does a model become? | How small is a quantized model? | How small is a UINT4 model? |
        Is a quantized model smaller? | Is a UINT4 model smaller? | Is a quantized model faster?"""
    ),
             ("With UINT4 a weight needs 4 bits instead of 16, so the model is almost four times smaller and "
"faster to read.",),
             ("four times smaller",)),
    Question(wordings(
        """Does quantization hurt quality? | Does a quantized model get worse? | Is a quantized model less exact? |
        What is lost by quantization? | Do you lose quality with 4 bits? | Is UINT4 worse than float16? |
        How much quality is lost? | Does UINT4 make mistakes? | Is quality lost with UINT4? |
        What is the price of quantization? | How good is a quantized model? | Is four bits enough? |
        Are four bits enough? | Is 4 bits enough? | Is UINT4 good enough? | Is UINT4 worse? |
        Is a UINT4 model worse? | Is a quantized model worse? | Is a quantized model as good? |
        Is a quantized model good? | Is quality lost by quantization? | Is quality lost with four bits? |
        Is any quality lost? | Does the quality get worse? | Does quality get worse with UINT4? |
        Does UINT4 hurt quality? | Does UINT4 hurt the model? | Does quantization hurt? |
        Does quantization hurt the model? | Does quantization make a model worse? | Does quantization lose quality? |
        Does the model get worse? | Do I lose quality? | Do I lose quality with UINT4? |
        Do you lose quality by quantization? | How much quality do I lose? | How much quality is lost with UINT4? |
        How much worse is a quantized model? | How good is UINT4? | How good is a UINT4 model? |
        What do I lose with UINT4? | What do I lose by quantization? | What quality is lost?"""
    ),
             ("A little quality is lost, and AWQ keeps the loss small. oga-chat measures it after every build.",),
             ("little quality",)),
    Question(wordings(
        """Why does AWQ need calibration? | Why is calibration needed? | Why does AWQ need data? |
        What is the calibration data used for? | Why do we calibrate? | What does AWQ need sample text for? |
        Why calibrate at all? | Can AWQ work without data? | Why run text before quantizing? |
        What is calibration good for? | Does AWQ need data? | For what does AWQ use the sample text? |
        Why does AWQ need calibration data? | Why does AWQ need a calibration set? | Why does AWQ need text? |
        Why does AWQ need sample text? | Why do we need calibration? | Why do we need calibration data? |
        Why is calibration data needed? | Why is sample text needed? | Why is calibration needed for AWQ? |
        Why do you calibrate? | Why do you need calibration? | Why do you need sample text? |
        What does AWQ need calibration for? | What does AWQ need data for? |
        What does AWQ do with the calibration data? | What does AWQ do with the sample text? |
        What is the sample text for? | What is the sample text used for? | What is calibration data good for? |
        What is calibration used for? | What do we need calibration for? | Does AWQ need calibration? |
        Does AWQ need calibration data? | Does AWQ need sample text? | Can AWQ work without calibration? |
        Can AWQ work without sample text? | Is calibration needed? | Is calibration data needed? |
        How does AWQ use the calibration data? | How does AWQ use the sample text?"""
    ),
             ("AWQ needs calibration text to see which activations are large: the weights that meet them matter "
"most.",),
             ("activations are large",)),
    Question(wordings(
        """What happens during a build? | How does oga-chat build a model? | What are the steps of a build? |
        How is the model made? | What does the builder do? | Which steps has the build? | How does the build work? |
        What happens when the model is built? | Tell me the stages of the build. | Describe the build. |
        Which stages has a build? | How do you get from a checkpoint to a chat? | What are the steps of the build? |
        What are the stages of a build? | What are the stages of the build? | What steps does a build have? |
        What stages does a build have? | What happens in a build? | What happens in the build? |
        What happens during the build? | What happens when I build a model? | What happens when a model is built? |
        Which steps does a build have? | Which steps does the build have? | Which stages has the build? |
        Which stages does the build have? | Which steps are in a build? | How is a model built? |
        How is a model made? | How is the model built? | How do you build a model? | How does the builder work? |
        How does a build work? | How does oga-chat make a model? | How does oga-chat build the model? |
        How many steps has a build? | How many stages does a build have? | Tell me the steps of a build. |
        Tell me the steps of the build. | Tell me about the build. | Describe the steps of a build. |
        Describe the stages of the build. | Explain the build. | Explain the steps of a build. |
        List the steps of a build. | List the stages of the build."""
    ),
             ("A build has five steps: calibrate, quantize, export, verify and publish.",), ("calibrate",)),
    Question(wordings(
        """What is smaller, group size 32 or 128? | Should I use a smaller group size? | Which group size is best? |
        What if I use group size 32? | Is a smaller group size better? | What does a group size of 32 change? |
        Which group size should I choose? | Why is the group size 128? | Is group size 32 more exact? |
        What about smaller groups? | Are smaller groups better? | What changes with bigger groups? |
        What changes with smaller groups? | What changes with a smaller group size? |
        What changes with a bigger group size? | What does a smaller group size change? |
        What does a smaller group size do? | What does a bigger group size do? | What if I use a smaller group size? |
        What if I use smaller groups? | What if I use bigger groups? | What is better, group size 32 or 128? |
        What is better, smaller or bigger groups? | What group size should I use? | What group size is best? |
        What is the best group size? | What is a good group size? | Which group size should I use? |
        Which group size is better? | Which group size is good? | Which is better, group size 32 or 128? |
        Should I use group size 32? | Should I use group size 128? | Should I use smaller groups? |
        Should I choose a smaller group size? | Is group size 32 better? | Is group size 32 better than 128? |
        Is group size 128 good? | Is a bigger group size better? | Is a smaller group size more exact? |
        Are bigger groups better? | Are smaller groups more exact? | Why is the group size 128 and not 32? |
        Why group size 128? | Why use groups of 128? | Why not use a group size of 32?"""
    ),
             ("Smaller groups are more exact, but they need more scales and so more memory. 128 is a good middle.",),
             ("more exact",)),
    Question(wordings(
        """What can I do with a system prompt? | How do I change how you answer? | Can I give you instructions? |
        How do I set your style? | Can you change your style? | How can I make you talk like a pirate? |
        Where do I tell you how to answer? | How do I make you answer in JSON? | Can you follow a system prompt? |
        How can I instruct you? | Which instructions do you understand? | How do I give you a role? |
        How can I change how you answer? | How can I set your style? | How can I change your style? |
        How can I give you a role? | How can I give you instructions? | How can I make you answer in JSON? |
        How can I make you answer in capitals? | How do I make you talk like a pirate? |
        How do I make you answer in capitals? | How do I make you answer in one word? | How do I change your style? |
        How do I give you instructions? | How do I instruct you? | How do I use a system prompt? |
        How do I write a system prompt? | Can I change how you answer? | Can I change your style? |
        Can I give you a role? | Can I give you a system prompt? | Can I make you talk like a pirate? |
        Can I tell you how to answer? | Can you follow instructions? | Can you answer in JSON? |
        Can you answer in capitals? | Can you talk like a pirate? | Do you follow instructions? |
        Do you follow a system prompt? | Do you understand a system prompt? | Do you understand instructions? |
        Where do I write a system prompt? | Where do I give you instructions? | What can I write in a system prompt? |
        What can I write in the system prompt? | Which system prompts do you understand? | Which styles do you know? |
        What styles do you know?"""
    ),
             ("Write a system prompt: I can answer in capitals, in one word, in JSON or as a pirate.",),
             ("system prompt",)),
    Question(wordings(
        """Do you learn from our chat? | Do you remember our last chat? | Will you remember me tomorrow? |
        Do you remember earlier chats? | Can you learn new things? | Do you forget everything? |
        Will you remember this? | Do you have a memory? | Will you know me next time? |
        Do you keep our chat in memory? | Can you remember things? | How long do you remember? | Do you remember me? |
        Do you remember our chat? | Do you remember this chat? | Do you remember things? |
        Do you remember what I say? | Do you remember yesterday? | Do you know me from last time? |
        Do you learn from me? | Do you learn from this chat? | Do you learn from what I say? |
        Do you learn new things? | Do you forget things? | Do you forget our chat? | Do you forget me? |
        Do you forget what I say? | Do you keep what I say? | Can you remember me? | Can you remember our chat? |
        Can you remember our last chat? | Can you remember what I say? | Can you learn? | Can you learn from me? |
        Can you learn from our chat? | Will you remember me? | Will you remember our chat? |
        Will you remember me next time? | Will you remember this tomorrow? | Will you remember what I say? |
        Will you forget me? | Will you forget this? | Will you forget this chat? | How long will you remember me? |
        How long will you remember this? | How long is your memory? | How good is your memory? | Have you a memory? |
        Have you a good memory?"""
    ),
             ("I remember what you say in this chat, but nothing from one chat to the next.",), ("this chat",)),
    Question(wordings(
        """What languages do you speak? | Do you speak German? | Can you speak French? | Which languages do you know? |
        Do you speak Spanish? | Do you understand Chinese? | Can you talk in Italian? |
        Is English your only language? | Can we talk in another language? | Do you know other languages? |
        Can you speak other languages? | Which language do you speak? | What language do you speak? |
        What languages do you know? | What languages do you understand? | What language do you know? |
        Which languages do you speak? | Which languages do you understand? | Which languages can you speak? |
        Which language do you understand? | How many languages do you speak? | How many languages do you know? |
        Do you speak French? | Do you speak English? | Do you speak Italian? | Do you speak Chinese? |
        Do you speak any other language? | Do you speak other languages? | Do you speak another language? |
        Do you understand German? | Do you understand French? | Do you understand Spanish? |
        Do you understand other languages? | Do you know German? | Do you know French? | Do you know Spanish? |
        Can you speak German? | Can you speak Spanish? | Can you speak Italian? | Can you speak Chinese? |
        Can you speak another language? | Can you talk in German? | Can you talk in French? |
        Can you talk in another language? | Can we talk in German? | Can we talk in French? | Can we speak German? |
        Can I talk to you in German? | Can I talk in French? | Is English your language? |
        Do you only speak English? | Do you only know English?"""
    ),
             ("I only speak English.",), ("English",)),
)  # fmt: skip
