# Completion of kokoro-say (say.py) for fish, made by its --completion.

function __kokoro_say_voices # those of the catalogue and the user's own; of a blend, its last part
    set -l command (commandline -opc)[1]
    set -l names ($command --list-voices 2>/dev/null </dev/null | sed -n 's/^\([a-z][fm]_[a-z0-9]*\) .*/\1/p')
    test -n "$names"; or set names af_alloy af_aoede af_bella af_heart af_jessica af_kore af_nicole af_nova af_river af_sarah af_sky am_adam am_echo am_eric am_fenrir am_liam am_michael am_onyx am_puck am_santa bf_alice bf_emma bf_isabella bf_lily bm_daniel bm_fable bm_george bm_lewis ef_dora em_alex em_santa ff_siwis hf_alpha hf_beta hm_omega hm_psi if_sara im_nicola jf_alpha jf_gongitsune jf_nezumi jf_tebukuro jm_kumo pf_dora pm_alex pm_santa zf_xiaobei zf_xiaoni zf_xiaoxiao zf_xiaoyi zm_yunjian zm_yunxi zm_yunxia zm_yunyang
    set -l before (string match -r '^.*,' -- (commandline -ct); or echo)
    string join \n -- $before$names
end

function __kokoro_say_files # ENDING...: directories, and files with these endings; any file if there is none
    set -l paths (complete -C "'' "(commandline -ct))
    string match -r '.*/$|.*/\t.*|.*\.(?:'(string join '|' $argv)')(?:\t.*)?$' -- $paths
    or string join \n -- $paths
end

for command in kokoro-say say.py
    complete -c $command -f
    complete -c $command -n '__fish_contains_opt download' -a '(__kokoro_say_voices) all'
    complete -c $command -s v -l voice -x -a '(__kokoro_say_voices)' -d 'af_heart; a blend af_bella:0.7,af_sky:0.3; \'?\' lists'
    complete -c $command -s s -l speed -x -d '0.25 to 4, 1 is natural'
    complete -c $command -s r -l rate -x -d 'speed in words a minute, 175 is natural'
    complete -c $command -l volume -x -d '0 to 2, 1 leaves it as it is'
    complete -c $command -l lang -x -a 'en-us en-gb es fr hi it ja pt-br zh' -d 'of the text: en-us en-gb es fr hi it ja pt-br zh'
    complete -c $command -l seed -x -d 'another take, 0 is the usual one'
    complete -c $command -l untouched -d 'the model\'s own samples: silence and level as they are'
    complete -c $command -s f -l file -x -a '(__kokoro_say_files txt md markdown html htm xhtml epub pdf)' -d 'a .txt .md .html .epub .pdf; - is stdin'
    complete -c $command -s e -l echo -d 'pass standard input through as it is spoken'
    complete -c $command -l lex -x -a 'add remove list test' -d 'pronunciations: add, remove, list or test'
    complete -c $command -l chapters -x -d 'only these chapters: 3-7,12 or 5-'
    complete -c $command -l from -x -d 'begin there: its number, or how its title begins'
    complete -c $command -l continue -d 'listen on where listening to a document ended'
    complete -c $command -l list-chapters -d 'list the chapters of -f, with their durations'
    complete -c $command -l plain -d 'say it as it is written: no Markdown, no tags'
    complete -c $command -l no-plain -d 'read Markdown and tags, whatever the settings say'
    complete -c $command -l ssml -d 'it is SSML, even if it does not begin with <speak'
    complete -c $command -l read-code -d 'read blocks of code too'
    complete -c $command -l emoji -x -a 'names drop' -d 'say emoji by name (usual), or leave them out'
    complete -c $command -l dialogue -d 'lines "NAME: text" in voices of their own'
    complete -c $command -l cast -x -d 'the voice of a name in a dialogue'
    complete -c $command -l explain -d 'print what would be said and its phonemes'
    complete -c $command -s o -l output -x -a '(__kokoro_say_files wav raw flac ogg opus mp3 m4a m4b)' -d 'write wav flac ogg opus mp3 m4a m4b raw; - is stdout'
    complete -c $command -l srt -x -a '(__kokoro_say_files srt)' -d 'captions of what -o writes, as SubRip'
    complete -c $command -l vtt -x -a '(__kokoro_say_files vtt)' -d 'captions as WebVTT'
    complete -c $command -l lrc -x -a '(__kokoro_say_files lrc)' -d 'captions as lyrics'
    complete -c $command -l words -x -a '(__kokoro_say_files json)' -d 'each word and its time, as JSON'
    complete -c $command -l split -d 'a file for each chapter: book-01.mp3 and so on'
    complete -c $command -l title -x -d 'title in its tags; the default is the document\'s'
    complete -c $command -l author -x -d 'author in its tags; the default is the document\'s'
    complete -c $command -l lufs -x -d 'loudness of the file; -16 is usual'
    complete -c $command -l sample-rate -x -d 'of the file, usually 24000'
    complete -c $command -l bit-depth -x -d 'of the file: 16 (usual), 24 or 32'
    complete -c $command -s n -l no-wait -d 'return at once, before it is spoken'
    complete -c $command -s i -l interrupt -d 'cancel all speech that came before'
    complete -c $command -s a -l audio-device -x -d 'part of a device\'s name; \'?\' lists'
    complete -c $command -l overlap -d 'speak on top of what is being spoken'
    complete -c $command -l follow -d 'show the word that is being heard'
    complete -c $command -l json -d 'with --status: as JSON'
    complete -c $command -l status -d 'what the servers do'
    complete -c $command -l shutdown -d 'end all servers'
    complete -c $command -l unload -d 'free the model\'s memory; the next speech loads it'
    complete -c $command -l stop -d 'cancel all speech'
    complete -c $command -l skip -d 'cancel what is being spoken'
    complete -c $command -l pause -d 'pause what is being spoken'
    complete -c $command -l resume -d 'go on after --pause'
    complete -c $command -l save-voice -x -d 'give the blend of -v a name of its own'
    complete -c $command -l add-voice -x -a '(__kokoro_say_files pt)' -d 'import a voice, a .pt file'
    complete -c $command -l list-voices -d 'list the voices'
    complete -c $command -l download -d 'fetch the model and the named voices, or all'
    complete -c $command -l engine -x -a 'auto kokoro espeak' -d 'auto, kokoro (the model or an error) or espeak'
    complete -c $command -l device -x -a 'auto cpu cuda mps' -d 'where the model runs: auto, cpu, cuda or mps'
    complete -c $command -l precision -x -a 'auto fp32 bf16' -d 'of the model: auto, fp32 or bf16'
    complete -c $command -s q -l quiet -d 'no progress and no notes, errors only'
    complete -c $command -s h -l help -d 'this; --help all has every flag'
    complete -c $command -l debug -d 'log the text, show tracebacks'
    complete -c $command -l version -d 'print the version'
    complete -c $command -l yes -d 'with --uninstall: do not ask'
    complete -c $command -l uninstall -d 'remove what this has put on the machine; asks first'
    complete -c $command -l completion -x -a 'bash zsh fish' -d 'print a completion script for it'
    complete -c $command -l doctor -d 'check all that speech needs here'
    complete -c $command -l config -d 'print each setting and where its value comes from'
    complete -c $command -l timing -d 'tell where the time went'
end
